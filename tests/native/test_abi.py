"""The structures of Python and C++ have the same sizes, and a library with other ones is not used."""

import ctypes

import pytest

from fishcli.native import build, structs

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason="there is no C++ compiler")


class Matrix(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p)]


class Unknown(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p)]


@pytest.mark.parametrize(
    ("structure", "said"), [(Matrix, "Matrix has 32 bytes in C.* and 8"), (Unknown, "has -1 bytes")]
)
def test_a_structure_of_another_size(monkeypatch, structure, said):
    build.load.cache_clear()
    monkeypatch.setattr(structs, "ALL", (*structs.ALL, structure))
    with pytest.raises(build.Unavailable, match=said):
        build.load()
    build.load.cache_clear()


def test_every_structure_is_compared():
    declared = [
        each for each in vars(structs).values() if isinstance(each, type) and issubclass(each, ctypes.Structure)
    ]
    assert len(declared) == 13
    assert set(declared) == set(structs.ALL)
