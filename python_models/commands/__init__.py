"""The commands of `irstd`, one file each: a typed `Config` with the help text, and `run(config) -> exit code`."""
