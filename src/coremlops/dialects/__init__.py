"""Core ML's languages, each as a typed, frozen graph."""
