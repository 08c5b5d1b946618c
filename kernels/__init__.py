"""Operations on tensors: mathematics only, one folder per operation."""

if __name__ != "eqlib.kernels":
    raise ImportError(
        f"this package was imported as {__name__!r}; import it as 'eqlib.kernels', "
        "so that each operation is registered once"
    )
