"""Build irstd_ext. This file is both the setuptools script and the PEP 517 backend."""
import json, os, shutil, subprocess, sys
from pathlib import Path
from setuptools.build_meta import *  # noqa: F401,F403 - the standard hooks
from setuptools import build_meta as _meta
TORCH = "torch>=2.11"
PROBE = """
import json, importlib.metadata as m, importlib.util as u, pathlib
s = u.find_spec("torch")
d = pathlib.Path(s.origin).parent if s and s.origin else None
print(json.dumps({"root": str(d), "version": m.version("torch"), "cuda": (d/"lib"/"libtorch_cuda.so").exists()} if d else None))
"""

def _environments():
    """The environment without pip's isolation, then the environment as it is (needed by `build` and uv)."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONNOUSERSITE")}, dict(os.environ)

def _run(command, env):
    try:
        r = subprocess.run(command, env=env, cwd=os.path.dirname(sys.executable), capture_output=True, text=True)
    except OSError:
        return ""
    return r.stdout.strip() if r.returncode == 0 else ""

def target_torch():
    """The torch of the environment being installed into, also under pip's build isolation (which hides it through PYTHONPATH)."""
    for env in _environments():
        found = json.loads(_run([sys.executable, "-c", PROBE], env) or "null")
        if found: return found
    return None

def tool_environment():
    """An environment in which cmake >= 3.24 and ninja run. pip's own cmake is a Python script that isolation can break."""
    for env in reversed(_environments()):
        version = _run(["cmake", "--version"], env).split()[2:3]
        if version and tuple(map(int, version[0].split(".")[:2])) >= (3, 24) and _run(["ninja", "--version"], env): return env
    return None

def too_old(torch):
    return tuple(int(n) for n in torch["version"].split("+")[0].split(".")[:2]) < (2, 11)

def _needs(base):
    torch = target_torch()
    return base + ([] if tool_environment() else ["cmake>=3.24", "ninja"]) + ([] if torch and not too_old(torch) else [TORCH])
def get_requires_for_build_wheel(config_settings=None): return _needs(_meta.get_requires_for_build_wheel(config_settings))
def get_requires_for_build_editable(config_settings=None): return _needs(_meta.get_requires_for_build_editable(config_settings))

if __name__ == "__main__":
    from setuptools import Extension, setup
    from setuptools.command.build_ext import build_ext
    class CMakeBuild(build_ext):
        def run(self):
            torch, env = target_torch(), tool_environment()
            if torch is None: raise SystemExit("irstd_ext: no torch found; run: pip install torch, then pip install .")
            if too_old(torch): raise SystemExit(f"irstd_ext: needs torch >= 2.11, found {torch['version']}; run: pip install -U torch, then pip install .")
            if env is None: raise SystemExit("irstd_ext: no cmake >= 3.24 with ninja found; run: pip install cmake ninja")
            try: import pybind11
            except ImportError: raise SystemExit("irstd_ext: no pybind11 found; run: pip install pybind11")
            root = Path(__file__).resolve().parent
            dest = root if self.inplace or self.editable_mode else Path(self.build_lib).resolve()
            work = Path(self.build_temp).resolve() / f"torch-{torch['version']}"
            nvcc = shutil.which("nvcc") or (p if os.path.exists(p := "/usr/local/cuda/bin/nvcc") else None)
            cuda = os.environ.get("IRSTD_CUDA", "1" if nvcc and torch["cuda"] else "0")
            if cuda == "1" and nvcc is None: raise SystemExit("irstd_ext: IRSTD_CUDA=1 needs nvcc on PATH or in /usr/local/cuda/bin, found none")
            for stale in (dest / "irstd_ext").glob("*.so"): stale.unlink()  # of an earlier build with other choices
            args = ["cmake", "-S", str(root), "-B", str(work), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                    f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja', path=env.get('PATH'))}",  # a cached one may be gone
                    f"-DIRSTD_TORCH_ROOT={torch['root']}", f"-DIRSTD_CUDA={cuda}",
                    f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
            if cuda == "1": args.append(f"-DCMAKE_CUDA_COMPILER={nvcc}")
            print("irstd_ext: torch", torch, "cuda", cuda, flush=True)
            for command in (args, ["cmake", "--build", str(work)], ["cmake", "--install", str(work), "--prefix", str(dest)]):
                if subprocess.run(command, env=env).returncode:
                    hint = "; IRSTD_CUDA=0 leaves the CUDA library out" if cuda == "1" else ""
                    raise SystemExit(f"irstd_ext: {' '.join(command[:2])} failed, see above{hint}")
        def get_outputs(self): return [str(p) for p in Path(self.build_lib).rglob("*.so")]
    setup(ext_modules=[Extension("irstd_ext._targets", [])], cmdclass={"build_ext": CMakeBuild})
