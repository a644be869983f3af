"""InfoCLIP: LPAM and both losses equal their formulas, and gradients go where the method wants them and
nowhere else.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from infoclip_lite.information import gram, renyi_joint_entropy, renyi_mutual_information
from infoclip_lite.objectives import (
    LPAM,
    Batch,
    InfoCLIPObjective,
    View,
    build_objective,
    compression_loss,
    relation,
    transfer_loss,
)

B, N, C, D = 3, 5, 4, 8
AXES = ["batch", "pixel", "class"]
SAMPLES = {"batch": B, "pixel": N, "class": C}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def view(seed: int = 0, pictures: int = B, dim: int = D, words: int = C) -> View:
    dense, text = (
        F.normalize(normal(*s, seed=seed, dtype=torch.float32), dim=-1)
        for s in ((pictures, N, dim), (words, dim))
    )
    return View(dense, text, torch.tensor(10.0))


def with_gradients(v: View) -> View:
    return View(v.dense.clone().requires_grad_(True), v.text.clone().requires_grad_(True), v.scale)


def lively(lpam: LPAM, seed: int = 9) -> LPAM:
    """Gains and biases start at one and zero, which would hide a missing one."""
    with torch.no_grad():
        for i, parameter in enumerate(lpam.parameters()):
            parameter.add_(0.2 * normal(*parameter.shape, seed=seed + i, dtype=parameter.dtype))
    return lpam


# The formulas of the paper's figure, written out: cosines of flattened samples, eigenvalues, and products
# scaled to trace one.


def cosines(rows: Tensor) -> Tensor:
    rows = rows / rows.norm(dim=1, keepdim=True)
    return rows @ rows.T


def entropy(k: Tensor, alpha: float) -> Tensor:
    values = torch.linalg.eigvalsh(k / k.trace()).clamp(min=0)
    return values.pow(alpha).sum().log() / (1 - alpha)


def samples(maps: Tensor, axis: str) -> list[Tensor]:
    """Rows (n, numbers) of each Gram matrix."""
    if axis == "batch":
        return [torch.stack([picture.flatten() for picture in maps])]
    return list(maps) if axis == "pixel" else [picture.T for picture in maps]


def compression_by_hand(dense: Tensor, text: Tensor, r: Tensor, axis: str, alpha: float) -> Tensor:
    losses = []
    for i, rows in enumerate(samples(r, axis)):
        g_r = cosines(rows)
        g_l = (
            cosines(text) if axis == "class" else torch.ones_like(g_r)
        )  # one text for all pictures and patches
        g_v = torch.ones_like(g_r) if axis == "class" else cosines(samples(dense, axis)[i])
        losses.append(entropy(g_r, alpha) - entropy(g_v * g_l * g_r, alpha))
    return torch.stack(losses).mean()


def transfer_by_hand(r_t: Tensor, r_s: Tensor, axis: str, alpha: float) -> Tensor:
    pairs = [(cosines(t), cosines(s)) for t, s in zip(samples(r_t, axis), samples(r_s, axis), strict=True)]
    return torch.stack(
        [entropy(t * s, alpha) - entropy(t, alpha) - entropy(s, alpha) for t, s in pairs]
    ).mean()


def test_lpam_has_the_papers_number_of_parameters() -> None:
    assert sum(p.numel() for p in LPAM(512).parameters()) == 527_360


@pytest.mark.parametrize("residual", ["layernorm", "cosine"])
def test_lpam_is_the_formula_written_out(residual: str) -> None:
    lpam, dense, text = lively(LPAM(D, residual).double()), 3 * normal(B, N, D), 2 * normal(C, D, seed=1)

    def normed(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
        centred = x - x.mean()
        return centred / (centred.square().mean() + 1e-5).sqrt() * layer.weight + layer.bias

    got = lpam(dense, text)
    assert got.shape == (B, N, C)
    for b, n, c in ((0, 0, 0), (2, 4, 3), (1, 3, 2)):
        pixel, word = normed(dense[b, n], lpam.norm_dense), normed(text[c], lpam.norm_text)
        q, k = lpam.query.weight @ pixel + lpam.query.bias, lpam.key.weight @ word + lpam.key.bias
        branch = pixel @ word if residual == "layernorm" else F.cosine_similarity(dense[b, n], text[c], dim=0)
        assert got[b, n, c].item() == pytest.approx((branch + q @ k / D**0.5).item(), rel=1e-9)


@pytest.mark.parametrize(
    ("dense", "text"),
    [
        ((B, N, D), (C, D + 1)),
        ((B, N, D + 1), (C, D)),
        ((B, N, D + 1), (C, D + 1)),
        ((N, D), (C, D)),
        ((B, N, D), (C, 1, D)),
    ],
    ids=["wide text", "wide pixels", "both wide", "one picture", "several templates"],
)
def test_lpam_says_which_shapes_it_expected(dense: tuple, text: tuple) -> None:
    with pytest.raises(
        ValueError, match=r"got dense .* and text .*; expected \(B, N, 8\) and \(C, 8\).*embed_dim"
    ):
        LPAM(D)(torch.zeros(dense), torch.zeros(text))


def test_relation_without_lpam_is_cosines() -> None:
    dense, text = normal(B, N, D), normal(C, D, seed=1)
    assert relation(dense, text)[1, 2, 3].item() == pytest.approx(
        F.cosine_similarity(dense[1, 2], text[3], dim=0).item()
    )


@pytest.mark.parametrize("base", [2.0, math.e])
@pytest.mark.parametrize("alpha", [2.0, 1.01, 3.0])
@pytest.mark.parametrize("axis", AXES)
def test_losses_equal_their_formulas_with_eigenvalues(axis: str, alpha: float, base: float) -> None:
    dense, text, r, s = (
        normal(B, N, D),
        normal(C, D, seed=1),
        normal(B, N, C, seed=2),
        normal(B, N, C, seed=3),
    )
    options = {"axis": axis, "alpha": alpha, "base": base}
    wanted = compression_by_hand(dense, text, r, axis, alpha) / math.log(base)
    assert compression_loss(dense, text, r, **options).item() == pytest.approx(wanted.item(), rel=1e-8)
    wanted = transfer_by_hand(r, s, axis, alpha) / math.log(base)
    assert transfer_loss(r, s, **options).item() == pytest.approx(wanted.item(), rel=1e-8)


def test_compression_at_the_batch_axis_is_the_figures_line() -> None:
    """-log ||G_R||^2 + log ||G_VLR||^2 with G_L all ones: every picture has the same words."""
    dense, text, r = normal(B, N, D), normal(C, D, seed=1), normal(B, N, C, seed=2)
    g_v, g_r, g_l = (
        cosines(dense.flatten(1)) / B,
        cosines(r.flatten(1)) / B,
        cosines(text.flatten().repeat(B, 1)),
    )
    assert torch.allclose(g_l, torch.ones(B, B, dtype=g_l.dtype))
    g_vlr = g_v * g_l * g_r
    wanted = -g_r.square().sum().log2() + (g_vlr / g_vlr.trace()).square().sum().log2()
    assert compression_loss(dense, text, r).item() == pytest.approx(wanted.item(), rel=1e-10)


@pytest.mark.parametrize(
    ("axis", "alpha"), [("batch", 2.0), ("pixel", 2.0), ("class", 2.0), ("batch", 1.01), ("class", 3.0)]
)
def test_gradients_of_both_losses_are_right(axis: str, alpha: float) -> None:
    dense, text, r, s = (
        normal(2, 4, D),
        normal(3, D, seed=1),
        normal(2, 4, 3, seed=2),
        normal(2, 4, 3, seed=3),
    )
    r.requires_grad_(True)
    s.requires_grad_(True)
    torch.autograd.gradcheck(lambda x: compression_loss(dense, text, x, axis=axis, alpha=alpha), (r,))
    torch.autograd.gradcheck(lambda x, y: transfer_loss(x, y, axis=axis, alpha=alpha), (r, s))


@pytest.mark.parametrize("axis", AXES)
def test_compression_has_the_gradient_of_the_mutual_information(axis: str) -> None:
    dense, text, r = normal(B, N, D), normal(C, D, seed=1), normal(B, N, C, seed=2).requires_grad_(True)
    (got,) = torch.autograd.grad(compression_loss(dense, text, r, axis=axis), r)
    information = []
    for i, rows in enumerate(samples(r, axis)):
        g_r = cosines(rows)
        g_vl = cosines(text) if axis == "class" else cosines(samples(dense, axis)[i])
        information.append(
            renyi_joint_entropy(g_vl) + renyi_joint_entropy(g_r) - renyi_joint_entropy(g_vl, g_r)
        )
    (wanted,) = torch.autograd.grad(torch.stack(information).mean(), r)
    assert got.abs().max() > 1e-3 and torch.allclose(got, wanted, atol=1e-10)


@pytest.mark.parametrize("axis", AXES)
@given(seed=st.integers(0, 10_000))
def test_transfer_is_between_minus_log_of_the_samples_and_zero(axis: str, seed: int) -> None:
    r, s = normal(B, N, C, seed=seed), normal(B, N, C, seed=seed + 1)
    for pair in ((r, s), (r, r)):
        assert -math.log2(SAMPLES[axis]) - 1e-9 <= transfer_loss(*pair, axis=axis).item() <= 1e-9


def test_transfer_reaches_its_floor_where_all_samples_differ() -> None:
    eye = torch.eye(4)
    assert transfer_loss(eye[:, :, None], eye[:, :, None]).item() == pytest.approx(-2), (
        "four pictures, two bits"
    )
    assert transfer_loss(eye[None], eye[None], axis="pixel").item() == pytest.approx(-2)
    assert transfer_loss(torch.ones(4, 2, 3), torch.ones(4, 2, 3)).item() == pytest.approx(0, abs=1e-6), (
        "nothing told apart"
    )


def test_transfer_may_rise_above_zero() -> None:
    """I_2 is no Shannon information: on counts (18, 11, 11, 0) / 40 of two yes/no answers it is -0.031
    bits.
    """
    counts = torch.tensor([18, 11, 11, 0])
    pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat_interleave(counts, 0)
    r, s = (F.one_hot(pairs[:, i], 2).double()[None] for i in (0, 1))
    assert transfer_loss(r, s, axis="pixel").item() == pytest.approx(0.031, abs=5e-4)


@pytest.mark.parametrize("correction", ["permutation", "ustatistic"])
@pytest.mark.parametrize("axis", AXES)
def test_corrections_are_those_of_the_mutual_information(axis: str, correction: str) -> None:
    dense, text, r, s = (
        normal(B, N, D),
        normal(C, D, seed=1),
        normal(B, N, C, seed=2),
        normal(B, N, C, seed=3),
    )
    transfers, compressions = [], []
    for i, (t, u) in enumerate(zip(samples(r, axis), samples(s, axis), strict=True)):
        transfers.append(-renyi_mutual_information(cosines(t), cosines(u), correction=correction))
        known = cosines(text) if axis == "class" else cosines(samples(dense, axis)[i])
        compressions.append(
            renyi_mutual_information(known, cosines(t), correction=correction) - renyi_joint_entropy(known)
        )
    options = {"axis": axis, "correction": correction}
    assert transfer_loss(r, s, **options).item() == pytest.approx(torch.stack(transfers).mean().item())
    assert compression_loss(dense, text, r, **options).item() == pytest.approx(
        torch.stack(compressions).mean().item()
    )
    assert transfer_loss(r, s, **options).item() != pytest.approx(
        transfer_loss(r, s, axis=axis).item(), abs=1e-3
    )


@pytest.mark.parametrize("axis", AXES)
def test_losses_keep_full_precision_inside_autocast(axis: str) -> None:
    v, r, s = (
        view(),
        normal(B, N, C, seed=2, dtype=torch.float32),
        normal(B, N, C, seed=3, dtype=torch.float32),
    )
    plain = compression_loss(v.dense, v.text, r, axis=axis), transfer_loss(r, s, axis=axis)
    with torch.autocast("cpu", torch.bfloat16):
        inside = compression_loss(v.dense, v.text, r, axis=axis), transfer_loss(r, s, axis=axis)
    for a, b in zip(inside, plain, strict=True):
        assert a.dtype == torch.float32 and a.item() == pytest.approx(b.item(), abs=1e-5)


def test_objective_inside_autocast_is_float32_and_near() -> None:
    torch.manual_seed(0)
    objective = InfoCLIPObjective(D, axis="pixel")
    plain = objective(Batch.of(teacher=view(0), student=view(1)))
    with torch.autocast("cpu", torch.bfloat16):
        inside = objective(Batch.of(teacher=view(0), student=view(1)))
    for name, value in plain.items():
        assert inside[name].dtype == torch.float32 and inside[name].item() == pytest.approx(
            value.item(), abs=0.02
        )


@pytest.mark.parametrize("axis", AXES)
def test_objective_is_the_weighted_sum_of_its_named_terms(axis: str) -> None:
    torch.manual_seed(0)
    objective = InfoCLIPObjective(
        D, axis=axis, alpha=3.0, base=math.e, residual="cosine", compression=0.5, transfer=2.0
    )
    lively(objective.lpam)
    teacher, student = view(0), view(1)
    terms = objective(Batch.of(teacher=teacher, student=student))
    r_t, r_s = objective.lpam(teacher.dense, teacher.text), objective.lpam(student.dense, student.text)
    l_c = compression_by_hand(teacher.dense.double(), teacher.text.double(), r_t.double(), axis, 3.0).item()
    l_d = transfer_by_hand(r_t.double(), r_s.double(), axis, 3.0).item()
    assert set(terms) == {"compression", "transfer", "total"} and all(
        value.ndim == 0 for value in terms.values()
    )
    assert terms["compression"].item() == pytest.approx(l_c, abs=1e-5) and terms[
        "transfer"
    ].item() == pytest.approx(l_d, abs=1e-5)
    assert terms["total"].item() == pytest.approx(0.5 * l_c + 2 * l_d, abs=1e-5)


def test_defaults_are_the_papers() -> None:
    torch.manual_seed(0)
    objective, teacher, student = InfoCLIPObjective(D), view(0), view(1)
    terms = objective(Batch.of(teacher=teacher, student=student))
    r_t, r_s = objective.lpam(teacher.dense, teacher.text), objective.lpam(student.dense, student.text)
    wanted = compression_loss(
        teacher.dense, teacher.text, r_t, axis="batch", alpha=2, base=2
    ) + transfer_loss(r_t, r_s)
    assert (
        terms["total"].item() == pytest.approx(wanted.item(), abs=1e-6)
        and objective.lpam.residual == "layernorm"
    )


def test_teacher_and_student_share_one_lpam() -> None:
    assert sum(p.numel() for p in InfoCLIPObjective(512).parameters()) == 527_360
    same = view(0)
    objective = InfoCLIPObjective(D, compression=0)
    r = objective.lpam(same.dense, same.text)
    assert objective(Batch.of(teacher=same, student=same))["total"].item() == pytest.approx(
        transfer_loss(r, r).item(), abs=1e-6
    )


@pytest.mark.parametrize("axis", AXES)
def test_no_gradient_reaches_the_teacher(axis: str) -> None:
    teacher, student = with_gradients(view(0)), with_gradients(view(1))
    objective = InfoCLIPObjective(D, axis=axis)
    objective(Batch.of(teacher=teacher, student=student))["total"].backward()
    assert teacher.dense.grad is None and teacher.text.grad is None
    for tensor in (student.dense, student.text, objective.lpam.query.weight, objective.lpam.norm_text.weight):
        assert tensor.grad.isfinite().all() and tensor.grad.abs().max() > 0


def test_transfer_trains_lpam_through_the_teachers_relation_as_well() -> None:
    torch.manual_seed(0)
    objective, teacher, student = InfoCLIPObjective(D, axis="pixel", compression=0), view(0), view(1)
    lpam, weight = objective.lpam, objective.lpam.query.weight
    (got,) = torch.autograd.grad(objective(Batch.of(teacher=teacher, student=student))["total"], weight)
    r_t, r_s = lpam(teacher.dense, teacher.text), lpam(student.dense, student.text)
    (both,) = torch.autograd.grad(transfer_loss(r_t, r_s, axis="pixel"), weight, retain_graph=True)
    (one,) = torch.autograd.grad(transfer_loss(r_t.detach(), r_s, axis="pixel"), weight)
    assert torch.allclose(got, both, atol=1e-6) and (got - one).abs().max() > 1e-4


def test_compression_trains_lpam_and_never_the_student() -> None:
    student = with_gradients(view(1))
    objective = InfoCLIPObjective(D, transfer=0)
    terms = objective(Batch.of(teacher=view(0), student=student))
    terms["total"].backward()
    assert set(terms) == {"compression", "total"}
    assert (
        student.dense.grad is None
        and student.text.grad is None
        and objective.lpam.key.weight.grad.abs().max() > 0
    )


def test_weights_of_zero_leave_terms_out() -> None:
    assert set(InfoCLIPObjective(D, compression=0)(Batch.of(teacher=view(0), student=view(1)))) == {
        "transfer",
        "total",
    }
    nothing = InfoCLIPObjective(D, compression=0, transfer=0)(Batch.of(teacher=view(0), student=view(1)))
    assert set(nothing) == {"total"} and nothing["total"].item() == 0


@pytest.mark.parametrize(
    "weights", [{"compression": 1.0, "transfer": 0.0}, {"compression": 0.0, "transfer": 1.0}]
)
def test_one_picture_says_nothing_at_the_batch_axis(weights: dict) -> None:
    one = Batch.of(teacher=view(0, pictures=1), student=view(1, pictures=1))
    with pytest.raises(
        ValueError,
        match=r'axis="batch" has 1 sample.*no information; hint: more pictures a step, or axis="pixel"',
    ):
        InfoCLIPObjective(D, **weights)(one)
    for axis in ("pixel", "class"):
        assert InfoCLIPObjective(D, axis=axis, **weights)(one)["total"].isfinite()


@pytest.mark.parametrize(
    ("axis", "hint"),
    [("class", 'axis="class" has 1 sample'), ("pixel", "1 class.*train with two words or more")],
)
def test_one_class_is_refused_where_it_says_nothing(axis: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        InfoCLIPObjective(D, axis=axis)(Batch.of(teacher=view(0, words=1), student=view(1, words=1)))


def test_pixels_and_words_of_different_width_are_refused() -> None:
    mixed = View(view().dense, view(dim=D + 2).text, torch.tensor(1.0))
    for pair in ((mixed, view(1)), (view(0), mixed)):
        with pytest.raises(ValueError, match=r"got dense \(3, 5, 8\) and text \(4, 10\)"):
            InfoCLIPObjective(D)(Batch.of(teacher=pair[0], student=pair[1]))


def test_teacher_and_student_of_different_width_or_words_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"teacher's patches are \(3, 5, 8\), the student's \(3, 5, 10\); expected one shape"
    ):
        InfoCLIPObjective(D)(Batch.of(teacher=view(0), student=view(1, dim=D + 2)))
    with pytest.raises(ValueError, match=r"\(3, 5, 4\) and \(3, 5, 6\); expected one shape"):
        InfoCLIPObjective(D)(Batch.of(teacher=view(0), student=view(1, words=6)))


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"axis": "image"}, "unknown axis 'image'; expected one of batch, pixel, class"),
        ({"residual": "none"}, "unknown residual 'none'; expected one of layernorm, cosine"),
        ({"compression": -1.0}, "compression=-1.0.*expected 0 or more"),
        ({"transfer": -0.1}, "transfer=-0.1; expected 0 or more"),
        (
            {"alpha": 1.01, "correction": "permutation"},
            "correction='permutation' at alpha=1.01; expected alpha=2",
        ),
        ({"alpha": 3.0, "correction": "ustatistic"}, "expected alpha=2"),
    ],
)
def test_wrong_options_are_refused_before_training(options: dict, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        InfoCLIPObjective(D, **options)


def test_a_width_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="dim is 0.*embed_dim"):
        LPAM(0)


@pytest.mark.parametrize("axis", ["image", "", None])
def test_losses_refuse_an_unknown_axis(axis: object) -> None:
    r = normal(B, N, C)
    with pytest.raises(ValueError, match="unknown axis"):
        transfer_loss(r, r, axis=axis)
    with pytest.raises(ValueError, match="unknown axis"):
        compression_loss(normal(B, N, D), normal(C, D), r, axis=axis)


@pytest.mark.parametrize(
    ("dense", "text"),
    [((B, N + 1, D), (C, D)), ((B + 1, N, D), (C, D)), ((B, N, D), (C + 1, D))],
    ids=["pixels", "pictures", "words"],
)
def test_a_relation_of_something_else_is_refused(dense: tuple, text: tuple) -> None:
    with pytest.raises(
        ValueError, match=r"got a relation \(3, 5, 4\) for .* pixels and .* words; expected \(B, N, C\)"
    ):
        compression_loss(normal(*dense), normal(*text), normal(B, N, C))


def test_a_relation_without_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got a relation \(5, 4\); expected \(B, N, C\)"):
        transfer_loss(normal(N, C), normal(N, C), axis="pixel")


def test_an_objective_is_built_by_its_name_in_the_width_of_the_model(make_tiny: object) -> None:
    clip = make_tiny()
    objective = build_objective({"name": "infoclip", "axis": "pixel", "transfer": 0.5}, clip, clip)
    teacher, student = (view(seed, pictures=1, dim=clip.embed_dim) for seed in (0, 1))
    terms = objective(Batch.of(teacher=teacher, student=student))  # one picture: not the batch axis
    assert isinstance(objective, InfoCLIPObjective)
    assert terms["total"].item() == pytest.approx(
        terms["compression"].item() + 0.5 * terms["transfer"].item(), abs=1e-6
    )


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({}, "got objective {}; expected name: one word, and its options"),
        ({"name": "infosam"}, "unknown objective 'infosam'"),
        (
            {"name": "infoclip", "axes": "pixel"},
            "unknown key 'axes' in objective 'infoclip'; did you mean 'axis'",
        ),
        ({"name": "infoclip", "dim": 3}, "unknown key 'dim'"),
        (
            {"name": "kl", "axis": "pixel"},
            "unknown key 'axis' in objective 'kl'; expected one of weight, temperature",
        ),
        ({"name": "l2sp", "weight": 0.0}, "weight is 0.0"),
    ],
)
def test_a_recipe_that_names_no_objective_is_told(make_tiny: object, options: dict, hint: str) -> None:
    clip = make_tiny()
    with pytest.raises(ValueError, match=hint):
        build_objective(options, clip, clip)


def test_models_of_different_width_are_refused(make_tiny: object) -> None:
    wide = type("Wide", (), {"embed_dim": 64})()
    with pytest.raises(ValueError, match="32 wide, the teacher's 64"):
        build_objective({"name": "kl"}, make_tiny(), wide)


def test_samples_are_scaled_to_unit_length() -> None:
    """A patch that is twice as bright counts as much as before."""
    r, s, scale = normal(B, N, C), normal(B, N, C, seed=1), torch.rand(B, N, 1, dtype=torch.float64) + 0.5
    assert transfer_loss(scale * r, s, axis="pixel").item() == pytest.approx(
        transfer_loss(r, s, axis="pixel").item()
    )
    assert transfer_loss(7 * r, s).item() == pytest.approx(transfer_loss(r, s).item())
    assert gram(r[0], normalize=True).diagonal().tolist() == pytest.approx([1 / N] * N)


@pytest.mark.parametrize("axis", AXES)
def test_centring_subtracts_the_mean_over_the_samples(axis: str) -> None:
    dense, text, r, s = (
        normal(B, N, D),
        normal(C, D, seed=1),
        normal(B, N, C, seed=2),
        normal(B, N, C, seed=3),
    )
    over = AXES.index(axis)
    centred_r, centred_s = (x - x.mean(over, keepdim=True) for x in (r, s))
    wanted = transfer_by_hand(centred_r, centred_s, axis, 2.0).item() / math.log(2)
    assert transfer_loss(r, s, axis=axis, centre=True).item() == pytest.approx(wanted)
    shared = 5 * normal(*(1 if i == over else n for i, n in enumerate(r.shape)), seed=4)
    assert transfer_loss(r + shared, s, axis=axis, centre=True).item() == pytest.approx(wanted), (
        "what all samples share says nothing"
    )
    centred_dense = dense if axis == "class" else dense - dense.mean(over, keepdim=True)
    wanted = compression_by_hand(centred_dense, text - text.mean(0), centred_r, axis, 2.0).item() / math.log(
        2
    )
    assert compression_loss(dense, text, r, axis=axis, centre=True).item() == pytest.approx(wanted)


@pytest.mark.parametrize("correction", [None, "permutation"])
@pytest.mark.parametrize("axis", AXES)
def test_the_gap_is_what_the_shared_information_lacks_of_each_ones_own(
    axis: str, correction: str | None
) -> None:
    r, s = normal(B, N, C), normal(B, N, C, seed=1)
    options = {"axis": axis, "correction": correction}
    own = (transfer_loss(r, r, **options) + transfer_loss(s, s, **options)) / 2
    assert transfer_loss(r, s, kind="gap", **options).item() == pytest.approx(
        (transfer_loss(r, s, **options) - own).item()
    )


@pytest.mark.parametrize("axis", AXES)
@given(seed=st.integers(0, 10_000))
def test_the_gap_is_never_negative_and_zero_for_relations_that_are_alike(axis: str, seed: int) -> None:
    r, s = normal(B, N, C, seed=seed), normal(B, N, C, seed=seed + 1)
    assert transfer_loss(r, s, axis=axis, kind="gap") > 1e-6
    assert transfer_loss(r, r, axis=axis, kind="gap").item() == pytest.approx(0, abs=1e-12)
    assert transfer_loss(r, 3 * r, axis=axis, kind="gap").item() == pytest.approx(0, abs=1e-12)


def test_the_objective_hands_centring_and_kind_on() -> None:
    torch.manual_seed(0)
    objective, teacher, student = (
        InfoCLIPObjective(D, axis="pixel", centre=True, kind="gap"),
        view(0),
        view(1),
    )
    terms = objective(Batch.of(teacher=teacher, student=student))
    r_t, r_s = objective.lpam(teacher.dense, teacher.text), objective.lpam(student.dense, student.text)
    wanted = transfer_loss(r_t, r_s, axis="pixel", centre=True, kind="gap").item()
    assert terms["transfer"].item() == pytest.approx(wanted, abs=1e-6)
    wanted = compression_loss(teacher.dense, teacher.text, r_t, axis="pixel", centre=True).item()
    assert terms["compression"].item() == pytest.approx(wanted, abs=1e-6)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind 'bits'; expected one of information, gap"):
        InfoCLIPObjective(D, kind="bits")
    with pytest.raises(ValueError, match="unknown kind 'bits'"):
        transfer_loss(normal(B, N, C), normal(B, N, C), kind="bits")


def after(progress: float, objective: InfoCLIPObjective) -> dict[str, Tensor]:
    return objective(Batch.of(teacher=view(0), student=view(1), progress=progress))


def test_transfer_grows_over_the_ramp_while_compression_is_whole_from_the_start() -> None:
    torch.manual_seed(0)
    ramped = InfoCLIPObjective(D, axis="pixel", compression=2.0, transfer=3.0, ramp=0.4)
    for progress, grown in ((0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (1.0, 1.0)):
        terms = after(progress, ramped)
        wanted = 2 * terms["compression"] + 3 * grown * terms["transfer"]
        assert terms["total"].item() == pytest.approx(wanted.item(), rel=1e-5)
    at_once = InfoCLIPObjective(D, axis="pixel")
    at_once.load_state_dict(ramped.state_dict())
    terms = after(0.0, at_once)
    assert terms["total"].item() == pytest.approx((terms["compression"] + terms["transfer"]).item(), rel=1e-5)
    with pytest.raises(ValueError, match="ramp is 2; expected 0 .. 1"):
        InfoCLIPObjective(D, ramp=2)


def test_a_detached_teacher_relation_is_met_and_does_not_move() -> None:
    """The losses are the same; LPAM's gradient of L_d then comes through the student's relation alone."""
    objectives = [InfoCLIPObjective(D, axis="pixel", compression=0.0, detach=d) for d in (False, True)]
    lively(objectives[0].lpam)
    objectives[1].load_state_dict(objectives[0].state_dict())
    totals = [after(0.0, objective)["total"] for objective in objectives]
    assert totals[0].item() == pytest.approx(totals[1].item())
    lpam = objectives[1].lpam
    fixed = lpam(view(0).dense, view(0).text).detach()
    wanted = transfer_loss(fixed, lpam(view(1).dense, view(1).text), axis="pixel")
    for total in totals:
        total.backward()
    (slope,) = torch.autograd.grad(wanted, lpam.query.weight)
    assert torch.allclose(lpam.query.weight.grad, slope, atol=1e-6)
    assert not torch.allclose(objectives[0].lpam.query.weight.grad, slope, atol=1e-4)
