"""Exercise 03: the mean squared error with its gradients, and one step of gradient descent."""

import numpy as np  # you may need it


def mse(pred, target):
    """L = mean of (pred - target)², over all elements.

    pred, target: two arrays of one shape, any number of axes

    Returns (loss, vjp): loss is one number; vjp(dy) -> (dpred, dtarget), two new arrays of the
    shape of pred. float32 in, float32 out.
    Raises ValueError if the shapes differ: [n, 1] minus [n] would be [n, n].
    """
    raise NotImplementedError


def descent_step(theta, X, y, *, lr):
    """theta - lr · dL/dtheta, where L = mse(X @ theta, y).

    theta: [d], the parameters
    X: [n, d], one example in each row
    y: [n], what the prediction X @ theta should have been

    Returns the new theta, [d]. What came in stays as it is.
    """
    raise NotImplementedError
