"""Build ssd_fast._C by calling CMake (CMakeLists.txt lists every source and flag).

Environment: SSD_FAST_CUDA=AUTO|ON|OFF, CUDAARCHS (GPUs to compile for), CMAKE_ARGS (other options for CMake).
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        import pybind11

        ninja = shutil.which("ninja")
        output = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        # Unlike pip's temporary build tree, this one stays, so that `pip install -e .` is incremental.
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        configure = [
            "cmake",
            f"-S{ROOT}",
            f"-B{build}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DSSD_FAST_CUDA={os.environ.get('SSD_FAST_CUDA', 'AUTO')}",
            # The ninja of an isolated build vanishes with it: name this build's own, or fall back to make.
            *(["-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []),
            # Forget the architectures of an earlier build in the same folder.
            "-UCMAKE_CUDA_ARCHITECTURES",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build), "--target", "_C", "--parallel"], check=True)


setup(ext_modules=[Extension("ssd_fast._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
