"""The C++ kernels, and the compiler that makes a library of them."""
