"""Engine `coreml`: Apple's own framework on a Mac, in a process of its own that can be ended at any time."""
