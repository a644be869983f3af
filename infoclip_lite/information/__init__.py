"""Dependence between two things, measured.

Matrix-based Renyi information, classical and neural estimators, tasks with known truth.
"""

from .cka import cka, linear_cka
from .renyi import (
    gaussian_rbf_information,
    gram,
    linear_renyi_entropy,
    renyi_entropy,
    renyi_joint_entropy,
    renyi_mutual_information,
)

__all__ = [
    "cka",
    "gaussian_rbf_information",
    "gram",
    "linear_cka",
    "linear_renyi_entropy",
    "renyi_entropy",
    "renyi_joint_entropy",
    "renyi_mutual_information",
]
