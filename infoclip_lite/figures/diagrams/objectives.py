"""InfoCLIP with the ways of its gradients, and global-to-local distillation."""

from __future__ import annotations

from ...objectives.chimera import positions_kept
from .canvas import Box, Canvas

INFOCLIP = (
    "InfoCLIP in training. A frozen teacher CLIP and the student CLIP see the same picture and words; each "
    "gives patch embeddings D_V and text embeddings D_L. One trained module, LPAM, makes a relation of them, "
    "R_T of the teacher's and R_S of the student's. Compression compares R_T with what it was made of, "
    "transfer R_T with R_S, and the student's embeddings go on to the segmentation head and the task loss. "
    "Gradients: compression trains LPAM alone, transfer LPAM and the student, the task loss head and "
    "student; none reaches the teacher. Afterwards student and head are kept, teacher and LPAM are not."
)
# Whom each term of the objective trains.
TRAINS = {"compression": ("LPAM",), "transfer": ("LPAM", "student")}
SIDE, SMALLEST = 8, 16  # positions a side, and K at the end of a training
GLOBAL_TO_LOCAL = (
    "Global to local. The frozen CLIP gives S, the CLS embedding of the picture; body and head of the "
    "student give R, a vector at each of 64 positions. The K positions most similar to S are kept and "
    "summed up, each weighted by its cosine with S; the summary must find its own S among those of the "
    "batch and of a queue of past ones (InfoNCE). The choice itself has no gradient. Below, the positions "
    "kept: the global learning module (GLM) of CLIP-ZSS always keeps all 64; selective global distillation "
    "(SGD, not stochastic gradient descent) begins so, and keeps 40 half-way and 16 at the end."
)
SELECTED_LESSONS = (
    "Selective distillation as a lesson at places. The frozen CLIP sees the picture and gives S, its CLS "
    "embedding, and T, a vector at each position; body and head of the student give R, a vector at each of "
    "the same positions. The K positions where T is most similar to S are kept: the teacher chooses, the "
    "student does not. The mean of T over the batch is subtracted from both T and R, and at the K "
    "positions R should point where T does: the loss is 1 minus their cosine. Another read-out of CLIP may "
    "choose than the one that teaches."
)


def infoclip(canvas: Canvas) -> None:
    """Teacher above, student below, LPAM between them."""
    lpam = canvas.box((368, 46), (66, 244), "LPAM", "shared", role="trained")
    both = canvas.group((16, 104), (80, 132), "for both")
    canvas.box((24, 128), (64, 44), "picture")
    canvas.box((24, 182), (64, 44), "words", role="text")
    relations = {}
    # A gradient comes back wherever something that learns lies behind: from R_T to LPAM, for it is not
    # detached, and no further; from R_S through LPAM to the student.
    for who, index, y, role in (("teacher", "T", 46, "frozen"), ("student", "S", 206, "trained")):
        kind = "gradient" if who == "student" else "signal"
        clip = canvas.box((130, y), (80, 84), who, "CLIP", role=role)
        canvas.arrow(both.right(), (114, both.right()[1]), (114, clip.left()[1]), clip.left())
        relations[who] = canvas.box((482, y + 22), (66, 40), f"R_{{{index}}}", font=15)
        for label, height, text in (("D_{V}: patches", 0, "data"), ("D_{L}: words", 48, "text")):
            view = canvas.box((236, y + height), (92, 36), label, role=text, font=14)
            canvas.across(clip, view, kind=kind)
            canvas.across(view, lpam, kind=kind)
        canvas.across(lpam, relations[who], kind="gradient")
    canvas.text((515, 60), "relation")
    canvas.text((515, 286), "relation")
    _losses(canvas, *relations.values())
    canvas.legend(("frozen", "trained", "text", "loss", "signal", "gradient"))


def _losses(canvas: Canvas, taught: Box, learnt: Box) -> None:
    """What is compared with what, and whom each loss trains."""
    compression = canvas.loss((582, 66), (104, 44), "compression", "L_{c}")
    transfer = canvas.loss((582, 146), (104, 44), "transfer", "L_{d}")
    head = canvas.box((368, 318), (66, 44), "head", role="trained")
    task = canvas.loss((582, 320), (104, 40), "task loss")
    canvas.across(taught, compression, kind="gradient")
    for relation, y in ((taught, 160), (learnt, 176)):
        start = relation.bottom() if relation is taught else relation.top()
        canvas.arrow(start, (start[0], y), (transfer.x, y), kind="gradient")
    # What the relation was made of runs above LPAM, the student's embeddings below it.
    above, below = 348, 340
    canvas.arrow((above, 112), (above, 26), (634, 26), compression.top())
    canvas.arrow((below, 224), (below, 340), head.left(), kind="gradient")
    for y in (64, 112):
        canvas.dot((above, y))
    for y in (224, 272):
        canvas.dot((below, y), "gradient")
    canvas.across(head, task, kind="gradient")
    for name, box in {"compression": compression, "transfer": transfer}.items():
        canvas.text((686, box.bottom()[1] + 16), "trains " + ", ".join(TRAINS[name]), anchor="end")
    canvas.text((686, task.bottom()[1] + 16), "trains student, head", anchor="end")


def global_to_local(canvas: Canvas) -> None:
    """From a picture to the loss above, which positions are kept below."""
    picture = canvas.box((16, 82), (66, 44), "picture")
    clip = canvas.box((116, 20), (80, 52), "CLIP", role="frozen")
    student = canvas.box((116, 136), (80, 52), "body,", "head", role="trained")
    summary = canvas.box((216, 24), (88, 44), "S: CLS")
    positions = canvas.box((216, 140), (88, 44), "R: positions")
    cosine = canvas.box((326, 82), (84, 44), "cosine", "with S")
    keep = canvas.box((436, 82), (70, 44), "keep K", bold=True)
    total = canvas.box((526, 140), (72, 44), "summary")
    candidates = canvas.box((452, 20), (142, 52), "S of the batch,", "and of a queue", font=12)
    loss = canvas.loss((612, 82), (76, 44), "InfoNCE")
    # The choice of positions has no gradient; what is chosen has one.
    for end in (clip, student):
        canvas.arrow(picture.right(), (99, 104), (99, end.left()[1]), end.left())
    canvas.across(clip, summary)
    canvas.across(student, positions, kind="gradient")
    canvas.across(positions, total, at=168, kind="gradient")
    canvas.arrow(summary.right(), (368, 46), cosine.top())
    canvas.dot((368, 46))
    canvas.arrow((368, 46), (candidates.x, 46))
    canvas.arrow(positions.right(0.3), (368, positions.right(0.3)[1]), cosine.bottom())
    canvas.across(cosine, keep)
    canvas.arrow(keep.right(), (total.top()[0], 104), total.top())
    canvas.arrow(total.right(), (650, 162), loss.bottom(), kind="gradient")
    canvas.arrow(candidates.right(), (650, 46), loss.top())
    _kept(canvas)
    canvas.legend(("frozen", "trained", "data", "loss", "signal", "gradient"))


def selected_lessons(canvas: Canvas) -> None:
    """The teacher above, who chooses and teaches; the student below."""
    picture = canvas.box((16, 92), (66, 44), "picture")
    clip = canvas.box((112, 26), (80, 52), "CLIP", role="frozen")
    student = canvas.box((112, 152), (80, 52), "body,", "head", role="trained")
    summary = canvas.box((222, 16), (92, 36), "S: CLS")
    taught = canvas.box((222, 66), (92, 36), "T: positions")
    learnt = canvas.box((222, 160), (92, 36), "R: positions")
    cosine = canvas.box((346, 16), (84, 36), "cosine")
    keep = canvas.box((460, 16), (84, 36), "keep K", bold=True)
    centre = canvas.box((346, 66), (84, 36), "- mean of T")
    follow = canvas.box((346, 160), (84, 36), "- mean of T")
    places = canvas.box((460, 92), (84, 78), "T and R", "at the K", "positions")
    loss = canvas.loss((580, 109), (100, 44), "1 - cosine")
    for end in (clip, student):
        canvas.arrow(picture.right(), (97, 114), (97, end.left()[1]), end.left())
    canvas.arrow((192, 34), (222, 34))
    canvas.arrow((192, 72), (222, 72))
    canvas.across(summary, cosine)
    canvas.arrow((330, 84), (330, 44), (346, 44))
    canvas.dot((330, 84))
    canvas.across(cosine, keep)
    canvas.across(taught, centre)
    canvas.across(student, learnt, kind="gradient")
    canvas.across(learnt, follow, kind="gradient")
    canvas.along(keep, places)
    canvas.arrow((430, 97), (460, 97))
    canvas.arrow((430, 165), (460, 165), kind="gradient")
    canvas.across(places, loss, kind="gradient")
    canvas.legend(("frozen", "trained", "data", "loss", "signal", "gradient"))


def _kept(canvas: Canvas) -> None:
    """The positions of a picture that are kept, in the course of a training."""
    canvas.group((16, 212), (160, 146), "GLM of CLIP-ZSS")
    canvas.group((192, 212), (492, 146), "SGD: selective global distillation, not the optimiser")
    # What is most like CLS lies together, on a thing; here on one a little above the middle.
    order = sorted(
        ((row, column) for row in range(SIDE) for column in range(SIDE)),
        key=lambda place: ((place[0] - 3.2) ** 2 + 0.7 * (place[1] - 3.9) ** 2, place),
    )
    for x, label, progress in (
        (56, "always", 0.0),
        (224, "at first", 0.0),
        (398, "half-way", 0.5),
        (572, "at last", 1.0),
    ):
        count = positions_kept(progress, SIDE**2, SMALLEST)
        chosen = set(order[:count])
        rows = [[(row, column) in chosen for column in range(SIDE)] for row in range(SIDE)]
        canvas.mosaic((x, 240), rows, cell=10, role="trained")
        canvas.text((x + 40, 342), f"{label}: K = {count}")
