"""The C++ of the targets under AddressSanitizer and UndefinedBehaviorSanitizer."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
FLAGS = ["-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
         "-D_GLIBCXX_ASSERTIONS"]  # an index within the capacity of a vector but past its size


def build(tmp_path, source):
    binary = tmp_path / "sanitized"
    subprocess.run([*COMPILER.split(), *FLAGS, "-I", str(HERE.parents[1] / "csrc" / "targets"), str(source), "-o", str(binary)], check=True)
    return binary


def run(binary, *arguments):
    return subprocess.run([str(binary), *arguments], capture_output=True, text=True, env={**os.environ, "LD_PRELOAD": ""})


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
def test_label_and_match_are_clean(tmp_path):
    result = run(build(tmp_path, HERE / "sanitized_targets.cpp"))
    assert result.returncode == 0 and result.stdout == "ok\n", result.stderr[-2000:]


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
def test_sweep_is_clean(tmp_path):
    binary = build(tmp_path, HERE / "sanitized_sweep.cpp")
    result = run(binary)
    assert result.returncode == 0 and result.stdout == "ok\n", result.stderr[-2000:]
    result = run(binary, "40 scores for 80 pixels")  # negative control
    assert result.returncode != 0 and "heap-buffer-overflow" in result.stderr


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
def test_sanitizer_sees_an_overread(tmp_path):
    """Negative control: one row more than the buffer holds."""
    source = tmp_path / "overread.cpp"
    source.write_text('#include <memory>\n#include "label.h"\nint main() { std::unique_ptr<uint8_t[]> m(new uint8_t[40]());\n'
                      'return static_cast<int>(irstd::targets::label_components(m.get(), 2, 40, nullptr).size()); }\n')
    result = run(build(tmp_path, source))
    assert result.returncode != 0 and "heap-buffer-overflow" in result.stderr
