"""The grammar of what is around statements: how blocks are kept, called, end and return."""

from dataclasses import dataclass

SIGNATURES = {
    "plain": ("", ""),
    "scale": (", scale=0.5", "h = h * scale"),
    "mask": (", mask=None", "if mask is not None:\n    h = h * mask"),
    "anything": (", *args, **kwargs", "h = h * kwargs.get('scale', 1.0) + len(args)"),
    "keyword_only": (", *, flag=True, scale=None", "if flag:\n    h = h * (scale or 0.5)"),
    "skip": (", skip", "h = h + (skip if skip is not None else <tensor>)"),
    "positions": (
        ", sizes=(1, 2), bias: float = 0.0",
        "h = h + bias * len(sizes)\n$a, *$b = sizes\nh = h * $a",
    ),
}
"""By interface: the arguments of a block after ``x``, and the statement that uses them."""
INPUTS = {
    "one": ("", ""),
    "optional": (", mask=None, *, scale=0.5", "h = h * scale if mask is None else h * mask"),
    "two": (", other", "h = h + self.stem(other)"),
    "two, the second None": (", other=None", "h = h if other is None else h + other"),
}
"""What the root is given after ``x``, and the statement that uses it."""
CALLS = {
    "plain": "BLOCK(h)",
    "scale": "BLOCK(h, scale=<float>)",
    "mask": "BLOCK(h, None)",
    "anything": "BLOCK(h, *(1, 2), **{'scale': <float>})",
    "keyword_only": "BLOCK(x=h, flag=<flag>)",
    "skip": "BLOCK(h, x)",
    "positions": "BLOCK(h, tuple(h.shape), bias=<float>)",
}
"""How the root calls a block of each interface."""
RETURNS = {
    "tensor": ("h", ""),
    "tuple": ("(h,)", "[0]"),
    "pair": ("h, x.mean()", "[0]"),
    "list": ("[x, h]", "[-1]"),
    "dict": ("{'hidden': h, 'shape': tuple(h.shape)}", "['hidden']"),
    "named": ("Pair(h, x)", ".first"),
    "dataclass": ("State(hidden=h)", ".hidden"),
}
"""What a block returns, and how the root gets the tensor out of it."""
ENDS = (
    "h = x + h",
    "h = h + x",
    "h += x",
    "h = x.clone()\nh += <module>(x)",
    "h = torch.add(x, h)",
    "h = torch.add(x, h, alpha=0.5)",
    "h = x.add(h)",
    "h = (h * 1).add_(x)",
    "h = sum([x, h])",
    "h = 0 + x + h",
    "h = x - h",
    "h = x + <float> * h",
    "h = torch.lerp(x, h, 0.5)",
    "h = torch.addcmul(x, h, <param>)",
    "h = torch.addcmul(x, h, <module>(h), value=0.5)",
    "h = torch.stack((x, h)).sum(0)",
    "h = operator.add(x, h)",
    "h = operator.iadd(h, x)",
    "h = x + <param> * h",
    "h = F.relu(x + h)",
    "h = <module>(x + h)",
    "h = <add_norm>(h, x)",
    "h = x + (<module>(h) if <cond> else h)",
    "h = functools.reduce(torch.add, (x, h))",
    "h = x + <module>(h)\nh = h + <module>(h)",
    "$skip, h = x, <module>(h)\nh = $skip + h",
    "h = h * 1",
)
"""The residual addition."""
HEADS: dict[int, tuple[str, ...]] = {
    2: ("y = self.head(h)", "y = self.head(<module>(h))"),
    3: (
        "y = self.head(h.mean(1))",
        "y = self.head(h[:, 0])",
        "y = self.head(h).mean(dim=1)",
        "y = self.head(h.flatten(0, 1)).view(*h.shape[:2], -1)",
        "y = self.head(h.amax(dim=1))",
    ),
    4: (
        "y = self.head(h.mean((2, 3)))",
        "y = self.head(F.adaptive_avg_pool2d(h, 1).flatten(1))",
        "y = self.head(h.flatten(2).mean(-1))",
        "b, c, height, width = h.shape\ny = self.head(h.sum((-1, -2)) / (height * width))",
    ),
}
"""From the last hidden tensor to logits."""
OUTPUTS = (
    "y",
    "(y, h)",
    "{'logits': y, 'hidden': h}",
    "State(hidden=y, mask=h)",
    "Pair(first=y, second=h)",
    "[y, {'size': h.shape[0]}]",
    "(y, None, h.shape[0], 'done')",
    "collections.OrderedDict(logits=y)",
    "y.softmax(-1) if not self.training else y",
)


@dataclass(frozen=True)
class Loop:
    """How a root keeps its blocks and runs them."""

    kind: str
    text: str
    plain: bool = False
    """Whether blocks must take a tensor and return one."""

    def container(self, made: list[str]) -> str:
        """The statements that make the container."""
        if self.kind == "Sequential":
            return f"self.blocks = nn.Sequential({', '.join(made)})"
        if self.kind == "ModuleDict":
            items = ", ".join(f"'b{k}': {block}" for k, block in enumerate(made))
            return f"self.blocks = nn.ModuleDict({{{items}}})"
        if self.kind == "attributes":
            lines = [f"self.block{k} = {block}" for k, block in enumerate(made)]
            return "\n".join([*lines, f"self.many = {len(made)}"])
        if self.kind == "shared":
            return f"self.blocks = nn.ModuleList([{made[0]}] * 2 + [{', '.join(made[1:])}])"
        return f"self.blocks = nn.ModuleList([{', '.join(made)}])"

    def again(self) -> str:
        """A statement that registers blocks under another name."""
        return "self.again = self." + ("block0" if self.kind == "attributes" else "blocks")


LOOPS = (
    Loop("Sequential", "h = self.blocks(h)", plain=True),
    Loop("Sequential", "h = self.blocks[:1](h)\nh = self.blocks[1:](h)", plain=True),
    Loop("ModuleList", "h = functools.reduce(lambda t, b: b(t), self.blocks, h)", plain=True),
    Loop("Sequential", "for $b in self.blocks:\n    h = CALL"),
    Loop("Sequential", "for $b in self.blocks.children():\n    h = CALL"),
    Loop("ModuleList", "for $b in self.blocks:\n    h = CALL"),
    Loop("ModuleList", "for $b in self.blocks:\n    h = CALL"),
    Loop("ModuleList", "for $b in self.blocks[:2]:\n    h = CALL"),
    Loop("ModuleList", "for $b in self.blocks[1:]:\n    h = CALL"),
    Loop("ModuleList", "for $b in reversed(self.blocks):\n    h = CALL"),
    Loop(
        "ModuleList", "for $i, $b in enumerate(self.blocks):\n    h = CALL if $i != 1 else h + CALL"
    ),
    Loop("ModuleList", "for $b, $k in zip(self.blocks, (0.5, 1, 2, 1)):\n    h = CALL * $k"),
    Loop(
        "ModuleList", "for $i in range(len(self.blocks)):\n    $b = self.blocks[$i]\n    h = CALL"
    ),
    Loop(
        "ModuleList",
        "$all = []\nfor $b in self.blocks:\n    h = CALL\n    $all.append(h)\nh = sum($all)",
    ),
    Loop("ModuleList", "for $b in self.blocks:\n    h = CALL\n    if <cond>:\n        h = h * 0.5"),
    Loop("shared", "for $b in self.blocks:\n    h = CALL"),
    Loop("ModuleDict", "for $b in self.blocks.values():\n    h = CALL"),
    Loop("ModuleDict", "for $n, $b in self.blocks.items():\n    h = CALL if $n != 'b9' else h"),
    Loop("ModuleDict", "for $n in self.blocks:\n    $b = self.blocks[$n]\n    h = CALL"),
    Loop(
        "attributes",
        "for $i in range(self.many):\n    $b = getattr(self, f'block{$i}')\n    h = CALL",
    ),
    Loop("attributes", "for $b in (self.block0, self.block1):\n    h = CALL"),
)
"""Ways to run the blocks; CALL is the call of ``$b``."""
