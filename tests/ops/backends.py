import torch
class _Cpu:
    def available(self): return True, ""
BACKENDS = {"cpu": _Cpu()}
