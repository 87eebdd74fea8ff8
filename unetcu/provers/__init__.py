"""How kernels are proved without a GPU: cases and bounds, the PTX machine, the compile gate, and
the profile that tells what each source line costs. `unetcu kernels` is their command."""
