"""Shapes and dtypes that annotations state, checked after every call while the tests run.

A call that returns is checked against the ``jaxtyping`` annotations of its arguments and of its
result together. One that raises is not: what is wrong with arguments is for the package's own
errors to say. Nothing is checked while torch compiles or exports.
"""

import functools
import importlib
import inspect
import pkgutil
import re
import sys
import types

import torch
from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

PACKAGES = ("geometry", "graph", "nn", "ops", "sensing", "models")

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check_shapes():
    """Check all functions and methods of the packages that state shapes; return their names."""
    modules = [
        importlib.import_module(info.name)
        for package in PACKAGES
        for info in pkgutil.walk_packages(
            importlib.import_module(f"fovigraph.{package}").__path__, f"fovigraph.{package}."
        )
        if ".gpu." not in info.name  # which needs Triton
    ]
    replaced, names = {}, []
    for module in modules:
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                if states_shapes(value):
                    replaced[value] = checked(value)
                    names.append(f"{module.__name__}.{name}")
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                names += [f"{module.__name__}.{name}.{m}" for m in check_methods(value)]
    for module in [m for n, m in sys.modules.items() if n.startswith("fovigraph")]:
        for name, value in list(vars(module).items()):
            if isinstance(value, types.FunctionType) and value in replaced:
                setattr(module, name, replaced[value])
    return names


def check_methods(cls):
    for name, value in list(vars(cls).items()):
        if inspect.isfunction(value) and states_shapes(value):
            setattr(cls, name, checked(value))
            yield name


def states_shapes(function):
    text = " ".join(map(str, getattr(function, "__annotations__", {}).values()))
    return any(f"{kind}[" in text for kind in ("Float", "Int64", "Num", "Shaped", "Bool", "UInt8"))


def checked(function):
    """Return a function that does the same and then checks shapes."""
    probe = make_probe(function)
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        if not torch.compiler.is_compiling() and probe is not None:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            probe(*given.arguments.values(), result)
        return result

    # Torch keeps what it compiled by code object, of which each function needs its own.
    call.__code__ = call.__code__.replace(co_name=function.__name__)
    return call


def make_probe(function):
    """Return a function of the same parameters and the result, all of them checked."""
    try:
        hints = inspect.get_annotations(function, eval_str=True)
    except NameError:  # a name for the type checker alone
        namespace = {**vars(sys.modules[function.__module__])}
        import fovigraph as fg

        namespace.update(vars(fg.models), FoviNet=fg.FoviNet)
        hints = {
            key: eval(value, namespace) if isinstance(value, str) else value
            for key, value in function.__annotations__.items()
        }
    parameters = list(inspect.signature(function).parameters)
    shaped = {key: hint for key, hint in hints.items() if mentions_a_shape(hint)}
    if not shaped:
        return None
    source = f"def probe({', '.join([*parameters, 'result'])}): pass"
    namespace = {}
    exec(source, namespace)
    probe = namespace["probe"]
    probe.__annotations__ = {
        "result" if key == "return" else key: hint for key, hint in shaped.items()
    }
    probe.__qualname__ = probe.__name__ = re.sub(r"\W", "_", function.__qualname__)
    probe.__module__ = function.__module__
    return jaxtyped(probe, typechecker=_check)


def mentions_a_shape(hint):
    if "jaxtyping" in getattr(hint, "__module__", "") or "jaxtyping" in str(hint):
        return True
    return any(mentions_a_shape(each) for each in getattr(hint, "__args__", ()))
