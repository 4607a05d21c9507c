"""The step `lint`: a Core ML model in; report.json, report.sarif and metrics.json out."""
