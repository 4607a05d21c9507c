"""From models of tables to Core ML's classic kinds, straight to the protobuf.

coremltools is not used: its converters stop at scikit-learn 1.5.1, and drop what newer versions of XGBoost
keep. What is written here computes in double, whatever `precision` says.
"""

from coremlops.convert.classic.writing import convert_table

__all__ = ["convert_table"]
