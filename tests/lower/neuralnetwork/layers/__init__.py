"""An oracle for every layer of the format: tables of cases, by family, as the rules have them.

The expected values come from NumPy or PyTorch and the words of `NeuralNetwork.proto` alone.
"""
