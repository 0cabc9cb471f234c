"""How many inputs Hypothesis tries: ``--hypothesis-profile=ci`` or ``thorough`` for more.

The default is small and always the same, so that the suite is quick and a student never meets a
failure that the next run does not show. ``thorough`` draws anew each time.
"""

from hypothesis import HealthCheck, settings

_common = {
    "deadline": None,  # a slow machine is no wrong gradient
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "print_blob": True,
}
settings.register_profile("default", max_examples=25, derandomize=True, **_common)
settings.register_profile("ci", max_examples=100, derandomize=True, **_common)
settings.register_profile("thorough", max_examples=1000, **_common)
settings.load_profile("default")
