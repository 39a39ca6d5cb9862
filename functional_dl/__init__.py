"""The calculus behind deep learning as pure JAX functions, every derivative derived by hand."""

__version__ = "0.1.0"
