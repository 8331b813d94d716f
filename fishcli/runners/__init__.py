"""How a model executes: PyTorch, a CUDA graph, or the C++ of `fishcli.native`; and the plan that picks one."""
