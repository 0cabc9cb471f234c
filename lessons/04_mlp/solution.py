"""Solution 04: the linear layer, and its gradients."""


def linear(x, weight, bias=None):
    """y = x Wᵀ + b.  x [..., in], weight [out, in], bias [out] or None.

    Returns (y, vjp): y [..., out]; vjp(dy) -> (dx, dweight, dbias).
    """
    n_out, n_in = weight.shape
    rows = x.reshape(-1, n_in)  # [..., in] -> [N, in]: all leading axes become rows
    y = rows @ weight.T  # [N, in] [in, out] -> [N, out]
    if bias is not None:
        y = y + bias  # [N, out] + [out]: the bias is repeated in every row

    def vjp(dy):
        dy = dy.reshape(-1, n_out)  # [..., out] -> [N, out]
        # y = rows @ weight.T + bias
        dx = dy @ weight  # [N, out] [out, in] -> [N, in]
        dweight = dy.T @ rows  # [out, N] [N, in] -> [out, in]: summed over N
        dbias = None if bias is None else dy.sum(axis=0)  # [N, out] -> [out]: summed over N
        return dx.reshape(x.shape), dweight, dbias

    return y.reshape(*x.shape[:-1], n_out), vjp
