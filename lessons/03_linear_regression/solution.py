"""Solution 03: the mean squared error with its gradients, and one step of gradient descent."""


def mse(pred, target):
    """L = mean of (pred - target)².  pred and target of one shape.  Returns (loss, vjp)."""
    if pred.shape != target.shape:
        raise ValueError(f"mse: pred is {pred.shape}, target {target.shape}; they must be alike")
    n = pred.size  # all elements, whatever the number of axes
    r = pred - target  # as pred: the residual
    loss = (r * r).sum() / n  # as pred -> []

    def vjp(dy):
        # loss = sum(r²) / n: each r has the slope 2 r / n
        dpred = (2 / n) * dy * r  # [] -> as pred
        # r = pred - target: target enters with a minus
        return dpred, -dpred

    return loss, vjp


def descent_step(theta, X, y, *, lr):
    """theta - lr · dL/dtheta, L = mse(X @ theta, y).  theta [d], X [n, d], y [n] -> [d]."""
    pred = X @ theta  # [n, d] [d] -> [n]
    _, vjp = mse(pred, y)  # [n], [n] -> []

    # loss = mse(pred, y)
    dpred, _ = vjp(1.0)  # [] -> [n], 2 (pred - y) / n
    # pred = X @ theta: theta_j touches every row i, with the factor X[i, j]
    dtheta = X.T @ dpred  # [d, n] [n] -> [d]

    return theta - lr * dtheta  # [d], downhill: a new array
