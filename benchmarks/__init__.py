"""Side by side with what users would run instead: ``python -m benchmarks``.

Everything that is compared runs in one process, in turns, so that a machine that slows down slows
all of them; what is reported is the median of the ratios within a round. Nothing here asserts a
time: the tests prove results, these tables show speed.
"""
