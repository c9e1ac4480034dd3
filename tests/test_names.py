"""Names resolve to models, and what does not resolve says what would."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxtransport import names
from fxtransport.errors import ModelNameError
from fxtransport.names import ModelSpec, list_models, resolve, suggest

CATALOGUE = {
    "timm": ("beit_base_patch16_224", "beit_base_patch16_384", "resnet18", "resnet50", "resnet50d"),
    "torchvision": ("resnet18", "resnet50", "swin_v2_b", "swin_v2_s", "fcos_resnet50_fpn"),
}


@pytest.fixture
def small_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the libraries to a few names, so that exact texts outlive their releases."""
    monkeypatch.setattr(names, "_names", CATALOGUE.__getitem__)


@pytest.mark.parametrize(
    ("asked", "canonical"),
    [
        ("resnet18", "timm:resnet18"),
        ("timm:resnet18", "timm:resnet18"),
        ("torchvision:resnet18", "torchvision:resnet18"),
        ("swin_t", "torchvision:swin_t"),
        ("resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
        ("nets:resnet110", "nets:resnet110"),
        ("some/where/net.py:make", "some/where/net.py:make"),
        ("C:\\net.py:make", "C:\\net.py:make"),
    ],
)
def test_exact_names_need_no_note(asked: str, canonical: str) -> None:
    spec = resolve(asked)
    assert spec.canonical == canonical
    assert spec.note is None


@pytest.mark.parametrize(
    ("asked", "found", "why"),
    [
        ("swin_tiny", "timm:swin_tiny_patch4_window7_224", "alias"),
        ("timm:vit_tiny", "timm:vit_tiny_patch16_224", "alias"),
        ("deit_tiny", "timm:deit_tiny_patch16_224", "alias"),
        ("mixer_s32", "timm:mixer_s32_224", "alias"),
        ("cait_xxs24", "timm:cait_xxs24_224", "alias"),
        ("mobilenetv3", "timm:mobilenetv3_large_100", "alias"),
        ("tiny_vit", "timm:tiny_vit_5m_224", "alias"),
        ("resnext50", "timm:resnext50_32x4d", "the only name with this beginning"),
        (
            "torchvision:resnext50",
            "torchvision:resnext50_32x4d",
            "the only name with this beginning",
        ),
        ("fcos", "torchvision:fcos_resnet50_fpn", "the only name with this beginning"),
        ("convnext_tiny_in22k", "timm:convnext_tiny.fb_in22k", "renamed by timm"),
    ],
)
def test_a_choice_is_said(asked: str, found: str, why: str) -> None:
    spec = resolve(asked)
    assert spec.canonical == found
    assert spec.note == f"{asked} is {found} ({why})"


@pytest.mark.parametrize(
    "name",
    [
        "seresnet50",
        "nf_resnet26",
        "convnext_tiny",
        "efficientnet_b0",
        "regnety_002",
        "levit_128",
        "mobilevit_s",
        "vgg11_bn",
        "densenet121",
    ],
)
def test_names_of_the_trade_are_timms(name: str) -> None:
    assert resolve(name).library == "timm"


def test_every_alias_has_a_model() -> None:
    assert {full for full in names.ALIASES.values() if resolve(full).note is not None} == set()


@pytest.mark.parametrize("name", ["deit", "beit", "maxvit", "seresnet", "mobilevit"])
def test_ambiguous_names_list_at_most_eight(name: str) -> None:
    with pytest.raises(ModelNameError, match=f"^'{name}' could mean several models: ") as caught:
        resolve(name)
    assert caught.value.exit_code == 2
    assert 2 <= str(caught.value).count(f"timm:{name}") <= 8


@pytest.mark.usefixtures("small_catalogue")
@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (
            "beit",
            "'beit' could mean several models: "
            "timm:beit_base_patch16_224, timm:beit_base_patch16_384",
        ),
        (
            "torchvision:swin",
            "'torchvision:swin' could mean several models: "
            "torchvision:swin_v2_b, torchvision:swin_v2_s",
        ),
        (
            "resnet81",
            "no model is called 'resnet81': "
            "did you mean timm:resnet18, timm:resnet50, timm:resnet50d?",
        ),
        (
            "50_fpn",
            "no model is called '50_fpn': did you mean torchvision:fcos_resnet50_fpn?",
        ),
        ("zzz", "no model is called 'zzz': `fxtransport models` lists all"),
        ("timm:", "no model is called 'timm:': `fxtransport models` lists all"),
        ("", "no model is called '': `fxtransport models` lists all"),
        ("net.py", "'net.py' is a file: name a function in it, net.py:FACTORY"),
        (
            "keras:resnet18",
            "'keras:resnet18' is not a valid name of a model: "
            "write timm:NAME, torchvision:NAME, nets:NAME or path/to/file.py:factory",
        ),
    ],
)
def test_the_error_says_what_to_write(asked: str, text: str) -> None:
    with pytest.raises(ModelNameError) as caught:
        resolve(asked)
    assert str(caught.value) == text


def test_long_lists_say_how_to_see_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {"timm": tuple(f"net_{index}" for index in range(10)), "torchvision": ()}
    monkeypatch.setattr(names, "_names", many.__getitem__)
    with pytest.raises(ModelNameError) as caught:
        resolve("net")
    assert str(caught.value).endswith("timm:net_7, and 2 more: `fxtransport models net` lists them")


def test_an_unknown_tag_lists_the_known_ones() -> None:
    with pytest.raises(ModelNameError, match=r"did you mean .*timm:resnet18\.a1_in1k"):
        resolve("resnet18.a1_in2k")
    with pytest.raises(ModelNameError):
        resolve("torchvision:resnet18.a1_in1k")


@given(st.data())
def test_a_canonical_name_resolves_to_itself(data: st.DataObject) -> None:
    canonical = data.draw(st.sampled_from(list_models()))
    spec = resolve(canonical)
    assert spec.canonical == canonical
    assert spec == ModelSpec(spec.library, spec.name)


@given(st.text(max_size=20))
def test_any_text_resolves_or_is_a_name_error(text: str) -> None:
    try:
        spec = resolve(text)
    except ModelNameError as error:
        assert str(error)
    else:
        assert resolve(spec.canonical).canonical == spec.canonical


@pytest.mark.parametrize("whole", ["timm:resnet18", "net.py:make", "a#b/net.py:make"])
def test_a_submodule_is_named_after_the_whole(whole: str) -> None:
    spec = resolve(f"{whole}#layer1.0")
    assert (spec.submodule, spec.canonical) == ("layer1.0", f"{whole}#layer1.0")
    assert resolve(spec.canonical) == spec
    assert resolve(whole).submodule == ""


def test_list_takes_globs_and_parts() -> None:
    assert list_models("resnet18", "torchvision") == [
        "torchvision:quantized_resnet18",
        "torchvision:resnet18",
    ]
    assert list_models("resnet1?", "torchvision") == ["torchvision:resnet18"]
    assert list_models("torchvision:raft*") == ["torchvision:raft_large", "torchvision:raft_small"]
    assert list_models("no such model") == []
    assert len(list_models()) == len(list_models(source="timm")) + len(
        list_models(source="torchvision")
    )


def test_suggestions_stay_in_the_library() -> None:
    assert suggest("resnet81", "torchvision")[0] == "torchvision:resnet18"
    assert {name.partition(":")[0] for name in suggest("resnet", "torchvision")} == {"torchvision"}
    assert len(suggest("resnet")) == names.SUGGESTIONS


def test_importing_the_names_imports_no_library() -> None:
    code = (
        "import sys, fxtransport.names, fxtransport.models\n"
        "print({'torch', 'timm', 'torchvision'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"
