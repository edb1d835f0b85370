"""One `OpSpec` per operator, in a module of the operator's name."""
