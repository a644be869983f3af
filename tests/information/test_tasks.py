"""Tasks: the stated information against closed forms, quadrature and the sampled log ratio."""

import math

import pytest
import torch
from scipy.integrate import quad

from infoclip_lite.information.tasks import gaussian_information, get_task, list_tasks


def draw(task, n=20000, seed=0):
    return task.sample(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "parameters", "nats"),
    [
        ("normal", {"rho": 0.5}, -0.5 * math.log(0.75)),
        ("normal", {"rho": 0.9, "dim": 3}, -1.5 * math.log(0.19)),
        ("normal", {"rho": 0.0}, 0.0),
        ("dense_normal", {"rho": 0.5, "dim": 3}, 0.5 * math.log(16 / 7)),
        ("dense_normal", {"rho": 0.5, "dim": 25}, 0.5 * math.log(26**2 / 51)),
        ("staircase", {"information": 6.0}, 6.0),
        ("additive_uniform", {"noise": 0.75}, 1 / 3),
        ("additive_uniform", {"noise": 0.1}, 0.1 - math.log(0.2)),
        ("additive_uniform", {"noise": 0.5}, 0.5),
        ("student_t", {"nu": 1}, math.log(8 * math.pi) - 3),
        ("asinh_student_t", {"nu": 1}, math.log(8 * math.pi) - 3),
        ("normal_cdf", {"rho": 0.5}, -0.5 * math.log(0.75)),
        ("swiss_roll", {"rho": 0.5}, -0.5 * math.log(0.75)),
        ("spiral", {"rho": 0.5, "dim": 2}, -math.log(0.75)),
        ("cube", {"rho": 0.5}, -0.5 * math.log(0.75)),
    ],
)
def test_information_is_the_closed_form(name, parameters, nats):
    assert get_task(name, **parameters).mutual_information == pytest.approx(nats, abs=1e-12)


@pytest.mark.parametrize("name", list_tasks())
def test_samples_have_the_stated_shape_and_are_reproducible(name):
    task = get_task(name)
    x, y = draw(task, 50)
    assert x.shape == (50, task.dim_x)
    assert y.shape == (50, task.dim_y)
    assert x.dtype == y.dtype == torch.float64
    again = draw(task, 50)
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])
    assert not torch.equal(x, draw(task, 50, seed=1)[0])
    assert task.name == name


@pytest.mark.parametrize("name", ["normal", "dense_normal", "staircase", "normal_cdf", "cube", "spiral"])
def test_log_ratio_averages_to_the_information_and_its_exponential_to_one(name):
    task = get_task(name, **({"information": 2.0} if name == "staircase" else {"rho": 0.4}))
    x, y = draw(task, 1500)
    ratio = task.log_ratio(x, y)
    together = ratio.diagonal()
    error = together.std() / len(together) ** 0.5
    assert abs(together.mean() - task.mutual_information) < 4 * error
    if name in ("normal", "normal_cdf", "cube", "dense_normal"):
        apart = ratio[~torch.eye(len(x), dtype=torch.bool)].exp().mean().item()
        assert apart == pytest.approx(1, abs=0.1)


def test_normal_samples_have_the_stated_covariance():
    for task, rho in ((get_task("normal", rho=0.8), 0.8), (get_task("dense_normal", rho=0.3, dim=2), 0.3)):
        x, y = draw(task)
        covariance = torch.cat([x, y], 1).T.cov()
        assert covariance.diagonal().numpy() == pytest.approx(1, abs=0.05)
        assert covariance[0, -1].item() == pytest.approx(rho, abs=0.03)


def test_gaussian_information_from_a_covariance():
    rho = 0.6
    covariance = torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64)
    assert gaussian_information(covariance, 1) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=1e-12)


@pytest.mark.parametrize("noise", [0.2, 0.75])
def test_additive_uniform_against_quadrature(noise):
    def density(y):
        return max(0.0, min(1.0, y + noise) - max(0.0, y - noise)) / (2 * noise)

    def integrand(y):
        p = density(y)
        return -p * math.log(p) if p > 0 else 0.0

    corners = sorted([noise, 1 - noise])
    entropy = quad(integrand, -noise, 1 + noise, points=corners, limit=200)[0]
    assert entropy - math.log(2 * noise) == pytest.approx(
        get_task("additive_uniform", noise=noise).mutual_information, abs=1e-6
    )


def test_student_density_ratio_averages_to_its_information():
    def log_t(z, nu):  # multivariate Student density with unit scale
        d = z.shape[1]
        constant = math.lgamma((nu + d) / 2) - math.lgamma(nu / 2) - d / 2 * math.log(nu * math.pi)
        return constant - (nu + d) / 2 * torch.log1p(z.square().sum(1) / nu)

    for nu, dim in ((1, 1), (3, 2)):
        task = get_task("student_t", nu=nu, dim=dim)
        x, y = draw(task)
        ratio = log_t(torch.cat([x, y], 1), nu) - log_t(x, nu) - log_t(y, nu)
        assert abs(ratio.mean() - task.mutual_information) < 4 * ratio.std() / len(ratio) ** 0.5


def test_maps_can_be_undone():
    base, spiral = get_task("normal", rho=0.75, dim=3), get_task("spiral")
    torch.testing.assert_close(draw(base, 100)[0].norm(dim=1), draw(spiral, 100)[0].norm(dim=1))
    x, rolled = draw(get_task("normal"), 100)[0], draw(get_task("swiss_roll"), 100)[0]
    assert torch.equal(x[:, 0].argsort(), rolled.norm(dim=1).argsort())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: get_task("nonsense"), "expected one of"),
        (lambda: get_task("normal", sigma=1), "sigma"),
        (lambda: get_task("normal", rho=1.0), "rho"),
        (lambda: get_task("normal", dim=0), "dim"),
        (lambda: get_task("dense_normal", rho=-0.5), "rho"),
        (lambda: get_task("staircase", information=-1), "information"),
        (lambda: get_task("additive_uniform", noise=0), "noise"),
        (lambda: get_task("student_t", nu=0), "nu"),
        (lambda: get_task("spiral", dim=1), "dim"),
        (lambda: get_task("normal").sample(0, torch.Generator()), "n >= 1"),
        (lambda: get_task("normal").sample(5, None), "Generator"),
    ],
)
def test_bad_input_is_refused_in_words(call, says):
    with pytest.raises(ValueError) as error:
        call()
    assert says in str(error.value)
