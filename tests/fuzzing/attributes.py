"""What modules of the fuzzer's programs have: attributes, submodules, methods, by symbol."""

from collections.abc import Callable
from textwrap import indent

from tests.fuzzing.writer import Scope, Writer

Maker = Callable[[Writer, Scope], str]

PLAIN: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "number": ("alpha", ("0.5", "0.3", "1.0", "2"), ("{} = 0.7", "{} = {} * 2", "{} = 1")),
    "flag": ("flag", ("True", "False"), ("{} = not {}",)),
    "count": ("count", ("1", "2", "3"), ("{} += 1", "{} = 1")),
    "depth": ("depth", ("1", "2", "3"), ("{} += 1", "{} = 1")),
    "text": ("mode", ("'relu'", "'tanh'"), ("{} = 'sigmoid'",)),
    "key": ("key", ("'a'", "'b'"), ("{} = 'b' if {} == 'a' else 'a'",)),
    "list": ("sizes", ("[1, 2]", "(1, 2, 3)", "[2]"), ("{} = [2, 1, 3]", "{} = (1, 2)")),
    "config": (
        "config",
        ("{'scale': 0.5, 'skip': 1}", "{'scale': 0.25}"),
        ("{}['scale'] = 0.75", "{}['a'] = 1.5", "{} = {{'scale': 1.5}}"),
    ),
    "space": (
        "space",
        ("types.SimpleNamespace(scale=0.5)",),
        ("{}.scale = 0.75", "{} = types.SimpleNamespace(scale=0.2)"),
    ),
    "optional": ("optional", ("None", "None", "0.5", "2"), ("{} = 0.5", "{} = None")),
    "callable": (
        "act",
        ("torch.tanh", "F.silu", "nn.GELU()", "functools.partial(F.elu, alpha=0.5)"),
        ("{} = nn.ReLU()",),
    ),
    "step": ("step", ("0",), ("{} = 5", "{} = 0")),
    "stash": ("last", ("None",), ("{} = None",)),
    "stash_list": ("seen", ("[]",), ()),
    "stash_dict": ("cache", ("{}",), ()),
}
"""Plain attributes: the name's beginning, first values, and changes from outside."""


def plain(symbol: str) -> Maker:
    """A maker of a plain attribute."""
    prefix, values, changes = PLAIN[symbol]

    def make(writer: Writer, scope: Scope) -> str:
        name = kept(writer, scope, symbol, prefix)
        scope.made.setdefault(name, f"self.{name} = {writer.choose(values)}")
        # a module cannot be replaced by a function, nor the other way round
        if changes and symbol != "callable" and name not in scope.changes:
            change = writer.choose(changes)
            scope.changes[name] = (
                change.replace("{}", f"module.{name}").replace("{{", "{").replace("}}", "}")
            )
        return f"self.{name}"

    return make


def kept(writer: Writer, scope: Scope, kind: str, prefix: str) -> str:
    """A name of an attribute of this kind: one that there is, or another."""
    names = scope.kinds.setdefault(kind, [])
    if names and writer.chance(0.5):
        return names[writer.random.randrange(len(names))]
    names.append(writer.name(prefix))
    return names[-1]


def layer(writer: Writer) -> str:
    """A layer that keeps the shape, as text."""
    dims = writer.layout.dims
    linear = "nn.Conv2d(8, 8, 3, padding=1)" if dims == 4 else "nn.Linear(8, 8)"
    norms = {
        2: ("nn.LayerNorm(8)", "nn.BatchNorm1d(8)"),
        3: ("nn.LayerNorm(8)", "nn.LayerNorm(8, elementwise_affine=False)"),
        4: ("nn.BatchNorm2d(8)", "nn.GroupNorm(2, 8)", "nn.Conv2d(8, 8, 1)"),
    }[dims]
    return writer.choose(
        (
            linear,
            linear,
            linear,
            *norms,
            "nn.Dropout(0.2)",
            "nn.Identity()",
            "nn.GELU()",
            "nn.ReLU(inplace=True)" if writer.chance(0.2) else "nn.Hardtanh()",
            f"nn.Sequential({linear}, nn.ReLU(), {linear})",
            f"Gate({linear})",
        )
    )


def module(writer: Writer, scope: Scope) -> str:
    name = kept(writer, scope, "module", "linear")
    if name not in scope.made:
        scope.made[name] = f"self.{name} = {layer(writer)}"
        if writer.chance(0.01):
            scope.made[name] += f"\nself.{name}.register_forward_hook(twice)"
    return f"self.{name}"


def modules(writer: Writer, scope: Scope) -> str:
    name = kept(writer, scope, "modules", "layers")
    if name not in scope.made:
        container = writer.choose(("ModuleList", "ModuleList", "Sequential"))
        layers = f"{layer(writer)}, {layer(writer)}"
        layers = f"[{layers}]" if container == "ModuleList" else layers
        scope.made[name] = f"self.{name} = nn.{container}({layers})"
    return f"self.{name}"


def module_dict(writer: Writer, scope: Scope) -> str:
    name = kept(writer, scope, "module_dict", "named")
    made = f"self.{name} = nn.ModuleDict({{'a': {layer(writer)}, 'b': {layer(writer)}}})"
    scope.made.setdefault(name, made)
    return f"self.{name}"


def made_of(symbol: str, prefix: str, text: str) -> Maker:
    """A maker of a submodule of one kind, around a layer."""

    def make(writer: Writer, scope: Scope) -> str:
        name = kept(writer, scope, symbol, prefix)
        if name not in scope.made:
            scope.made[name] = f"self.{name} = " + text.replace("LAYER", layer(writer))
        return f"self.{name}"

    return make


def twins(writer: Writer, scope: Scope) -> str:
    name = writer.name("twin")
    for k in range(2):
        scope.made[f"{name}{k}"] = f"self.{name}{k} = {layer(writer)}"
    return name


def tensor(symbol: str, prefix: str, text: str) -> Maker:
    """A maker of a tensor with a value per channel."""

    def make(writer: Writer, scope: Scope) -> str:
        name = kept(writer, scope, symbol, prefix)
        shape = writer.layout.per_channel()
        scope.made.setdefault(name, text.format(name=name, shape=shape))
        return f"self.{name}"

    return make


def method(writer: Writer, scope: Scope) -> str:
    if len(scope.methods) > 1:
        return "torch.add"
    name = writer.name("method")
    scope.methods[name] = ""
    static = writer.chance(0.2)
    if static:
        body = writer.choose(("return h * 0.5 + x", "return torch.where(h > x, h, 0.0)"))
        scope.methods[name] = f"@staticmethod\ndef {name}(h, x):\n    {body}"
    else:
        body = indent(writer.block(scope, 2), "    ")
        scope.methods[name] = f"def {name}(self, h, x):\n{body}\n    return h"
    return f"self.{name}"


def property_(writer: Writer, scope: Scope) -> str:
    name = kept(writer, scope, "property", "rate")
    if name not in scope.methods:
        number = plain("number")(writer, scope)
        scope.methods[name] = f"@property\ndef {name}(self):\n    return {number} / 2"
    return f"self.{name}"


MAKERS: dict[str, Maker] = {
    **{symbol: plain(symbol) for symbol in PLAIN},
    "module": module,
    "linear": made_of("linear", "project", "nn.Linear(8, 8)"),
    "modules": modules,
    "module_dict": module_dict,
    "twins": twins,
    "param": tensor("param", "gamma", "self.{name} = nn.Parameter(torch.full({shape}, 0.5))"),
    "buffer": tensor("buffer", "stat", "self.register_buffer('{name}', torch.full({shape}, 0.25))"),
    "plain_tensor": tensor(
        "plain_tensor", "table", "self.{name} = torch.linspace(0.1, 1, 8).view({shape})"
    ),
    "through_state": made_of("state", "through", "ThroughState()"),
    "through_pair": made_of("pair", "unpack", "ThroughPair()"),
    "add_norm": made_of("add_norm", "output", "AddNorm(LAYER)"),
    "inner": made_of("inner", "inner", "Inner(LAYER)"),
    "inner_with": made_of("inner_with", "around", "Around()"),
    "qkv": made_of("qkv", "qkv", "nn.Linear(8, 24)"),
    "attention": made_of("attention", "attention", "nn.MultiheadAttention(8, 2, batch_first=True)"),
    "method": method,
    "property": property_,
}
"""What makes attributes and submodules, by symbol."""
