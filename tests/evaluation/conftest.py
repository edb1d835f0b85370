"""The small set and run of tests/small_run.py."""
from small_run import always_one_thread, change, config, data, trained  # noqa: F401
