"""For all tests: what Hypothesis finds must not depend on how busy the machine is."""

from hypothesis import HealthCheck, settings

settings.register_profile("greenroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("greenroom")
