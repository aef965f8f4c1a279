"""For all tests: nothing may depend on how busy the machine is, or on how they were started."""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("greenroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("greenroom")

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # started in the background, and programs inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
