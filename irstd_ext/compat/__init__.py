"""The calls of other libraries, expressed over the operators of this one."""
