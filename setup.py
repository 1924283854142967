"""The compiled parts, in C, built where there is a compiler: the kernels of stages (see
pipeline/kernels), and the noise of sampling (see proofs/sampling)."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "pipeline.kernels._exact",
            sources=["pipeline/kernels/csrc/exact.c"],
            depends=[f"pipeline/kernels/csrc/{name}.h" for name in ("body", "lanes", "workers")],
            # Results must not depend on what a compiler fuses or reorders.
            extra_compile_args=[
                "-std=c11",
                "-O3",
                "-g0",
                "-ffp-contract=off",
                "-fno-math-errno",
                "-pthread",
            ],
            extra_link_args=["-pthread"],
            optional=True,
            py_limited_api=True,  # it uses nothing of Python's
        ),
        Extension(
            "proofs.sampling._contest",
            sources=["proofs/sampling/csrc/contest.c"],
            extra_compile_args=["-std=gnu11", "-O3", "-g0", "-fno-math-errno", "-Wno-psabi"],
            optional=True,
            py_limited_api=True,
        ),
    ]
)
