"""Every Triton kernel compiles, without a GPU, for the architectures the CUDA library is built for, with the arguments its launcher really passes."""
import inspect
from importlib import import_module

import irstd_ext
import pytest
import torch
from irstd_ext.testing import load_spec

triton = pytest.importorskip("triton", reason="triton is not installed")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}  # bytes a block can have
TYPES = {torch.float32: "fp32", torch.float64: "fp64", torch.float16: "fp16", torch.bfloat16: "bf16"}
SIZES = {
    "bilinear_attention": [dict(B=2, C=3, L=32, M=32, E=32), dict(B=1, C=2, L=65, M=70, E=67)],
    "linear_cross_attention": [dict(B=2, h=3, N=300, M=300, d=32, e=32), dict(B=1, h=2, N=5, M=7, d=130, e=65)],
    "pixel_difference": [dict(B=2, D=33, H=20, W=17, n=2), dict(B=1, D=3, H=5, W=4, n=3)],
    "pixel_difference_scan": [dict(B=2, D=32, H=16, W=16, N=16, n=2), dict(B=1, D=5, H=3, W=4, N=3, n=None)],
    "wavelet_diffusion": [dict(B=2, C=33, H=9, W=17, steps=2, channels_last=True), dict(B=1, C=3, H=20, W=33, steps=3, all_high=True)],
}
KERNELS = {
    "bilinear_attention": {"forward_kernel", "plane_kernel", "rows_kernel", "cols_kernel", "values_kernel", "sums_kernel"},
    "linear_cross_attention": {"state_kernel", "forward_kernel", "queries_kernel", "keys_kernel", "values_kernel", "sums_kernel"},
    "pixel_difference": {"difference_kernel", "sources_kernel", "gather_kernel"},
    "pixel_difference_scan": {"difference_kernel", "scan_kernel", "carry_kernel", "merge_kernel", "adjoint_kernel", "backward_kernel", "sources_kernel", "gather_kernel"},
    "wavelet_diffusion": {"step_kernel", "back_kernel", "sums_kernel"},
}


def launches(op: str, dtype: torch.dtype, monkeypatch) -> dict:
    """What one forward and backward of each size would launch: {(kernel, constants): (kernel, signature, constants, options)}."""
    found = {}

    def record(self, *args, grid, warmup, **kwargs):
        options = {"num_warps": kwargs.pop("num_warps")} if "num_warps" in kwargs else {}
        bound = inspect.signature(self.fn).bind(*args, **kwargs).arguments
        constants, signature = {}, {}
        for parameter in self.params:
            value = bound[parameter.name]
            if parameter.is_constexpr:
                constants[parameter.name], signature[parameter.name] = value, "constexpr"
            elif isinstance(value, torch.Tensor):
                signature[parameter.name] = "*" + TYPES[value.dtype]
            elif isinstance(value, float):
                signature[parameter.name] = "fp32"
            else:
                signature[parameter.name] = "i32" if abs(value) < 2**31 else "i64"
        found[(self.__name__, *map(str, constants.values()), *signature.values())] = (self, signature, constants, options)

    monkeypatch.setattr(JITFunction, "run", record)
    module, spec = import_module(f"irstd_ext.triton.{op}"), load_spec(op)
    for sizes in SIZES[op]:
        args = spec.args(sizes, dtype)
        out = getattr(module, op)(*args)
        spec.gradients(lambda *a: getattr(module, f"{op}_backward")(*a), args, torch.empty_like(out))
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("op", list(SIZES))
@pytest.mark.parametrize("dtype, capabilities", [(torch.float32, (80, 90, 100)), (torch.bfloat16, (90, 100)), (torch.float16, (80, 100)), (torch.float64, (90,))], ids=lambda v: str(v))
def test_kernels_compile(op, dtype, capabilities, monkeypatch):
    found = launches(op, dtype, monkeypatch)
    assert {name for name, *_ in found} == KERNELS[op]
    for kernel, signature, constants, options in found.values():
        for capability in capabilities:
            compiled = triton.compile(ASTSource(kernel, signature, constexprs=constants), GPUTarget("cuda", capability, 32), options=options)
            assert compiled.metadata.shared <= SHARED[capability], (kernel.__name__, constants)
            assert f"sm_{capability}" in compiled.asm["ptx"] and "tf32" not in compiled.asm["ptx"], kernel.__name__


def test_the_scan_is_compiled_and_run_in_one_pass_and_in_segments():
    module, spec = import_module("irstd_ext.triton.pixel_difference_scan"), load_spec("pixel_difference_scan")
    run = [sizes for sizes in spec.cases.values() if all(sizes[name] for name in "BDHW")]
    for cases in (SIZES["pixel_difference_scan"], run):
        for states in (module.FORWARD, module.BACKWARD):
            assert {module._which_kernel(*(sizes[name] for name in "BDHWN"), states) for sizes in cases} == {"one pass", "segments"}


def test_a_kernel_that_does_not_compile_is_noticed(tmp_path):
    (tmp_path / "wrong.py").write_text("import triton\nimport triton.language as tl\n\n\n@triton.jit\ndef kernel(x):\n    tl.store(x, tl.arange(0, 3))\n")
    spec = __import__("importlib.util").util.spec_from_file_location("wrong", tmp_path / "wrong.py")
    module = __import__("importlib.util").util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(triton.CompilationError):
        triton.compile(ASTSource(module.kernel, {"x": "*fp32"}), GPUTarget("cuda", 90, 32))


def test_no_op_is_left_out():
    assert sorted(SIZES) == sorted(irstd_ext.ops.__all__)
