"""What the extension brings into the user's interpreter, and what it must not."""

import os
import re
import subprocess

import pytest

import mold_harness

DIRECTORY = os.path.join(os.path.dirname(mold_harness.PROGRAM), "python")
EXTENSION = os.path.join(DIRECTORY, "_mgr_core.abi3.so")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_it_exports_its_init_function_alone():
    names = [line.split()[-1] for line in run("nm", "-D", "--defined-only", EXTENSION).splitlines()]
    assert names == ["PyInit__mgr_core"]


@pytest.mark.skipif(bool(os.environ.get("MGR_SANITIZE")), reason="the sanitizers bring libraries")
def test_it_needs_no_library_but_the_c_librarys():
    needed = re.findall(r"NEEDED\s+(\S+)", run("objdump", "-p", EXTENSION))
    allowed = r"(libc|libm|libpthread|libdl|librt)\.so\.\d+|ld-linux-.*\.so\.\d+"
    assert needed and all(re.fullmatch(allowed, name) for name in needed), needed


def test_it_uses_only_the_stable_interface_of_python():
    wanted = [line.split()[-1] for line in run("nm", "-D", "--undefined-only", EXTENSION).splitlines()]
    private = [name for name in wanted if re.match(r"_?Py", name)
               and not re.match(r"Py|_Py(Arg|Object)_\w+_SizeT|_Py_Dealloc|_Py_NoneStruct|_Py_TrueStruct"
                                r"|_Py_FalseStruct|_PyObject_(GC_)?New|_Py_BuildValue_SizeT", name)]
    assert private == []


def test_every_interpreter_imports_it(python):
    script = f"import sys; sys.path.insert(0, {DIRECTORY!r}); import _mgr_core; print(_mgr_core.Mold)"
    assert "_mgr_core.Mold" in run(python, "-c", script)
