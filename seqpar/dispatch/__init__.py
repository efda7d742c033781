"""From a call to a kernel: problem, capability, choice, registry of backends, tuned results, explanation."""
