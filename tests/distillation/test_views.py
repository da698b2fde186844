"""Fixed views of images, and sources that are asked about each of them once."""
import pytest
import torch
from torch import nn

from mmreuse.distillation import Objective, distill, same_classes
from mmreuse.distillation.views import Known, Views
from mmreuse.errors import ConfigError


def test_views_are_shifts_and_flips_that_stay_as_they_are():
    images = torch.rand(6, 2, 16, 8) + 1
    views = Views(images, 5, seed=3)
    places, numbers = torch.arange(6).repeat(5), torch.arange(5).repeat_interleave(6)
    found = views.take(places, numbers)
    assert torch.equal(found[:6], images)
    assert torch.equal(found, Views(images, 5, seed=3).take(places, numbers))
    assert not torch.equal(found, Views(images, 5, seed=4).take(places, numbers))
    padded = nn.functional.pad(images, (1, 1, 2, 2))
    moves = {}
    for view, place, number in zip(found, places.tolist(), numbers.tolist(), strict=True):
        possible = {(down, right, flip): part.flip(2) if flip else part for down in range(5) for right in range(3)
                    for flip in (False, True) for part in [padded[place, :, down:down + 16, right:right + 8]]}
        moves[place, number] = next(move for move, part in possible.items() if torch.equal(part, view))
    assert len(set(moves.values())) > 10 and {move[2] for move in moves.values()} == {False, True}


def test_images_alone_may_have_any_shape():
    vectors = torch.randn(4, 7)
    assert torch.equal(Views(vectors).take(torch.tensor([2, 0]), torch.zeros(2, dtype=torch.long)), vectors[[2, 0]])
    for count, given in ((0, torch.zeros(2, 3, 8, 8)), (2, vectors)):
        with pytest.raises(ConfigError, match=f'views={count}'):
            Views(given, count)


def test_what_is_known_is_not_asked_again():
    images, asked = torch.randn(5, 1, 8, 8), []
    known = Known(lambda batch: asked.append(len(batch)) or batch.mean((2, 3))[:, None], Views(images, 2))
    numbers = torch.tensor([0, 1, 0])
    for places in (torch.tensor([0, 1, 2]), torch.tensor([0, 1, 3]), torch.tensor([3, 2, 2])):
        batch = Views(images, 2).take(places, numbers)
        assert torch.allclose(known(places, numbers, batch)[:, 0], batch.mean((2, 3)))
    assert asked == [3, 1, 1]  # of the last only another view of an image is new


@pytest.mark.parametrize('amp', [False, True])
def test_distillation_asks_about_each_view_once_and_learns(amp):
    torch.manual_seed(0)
    teacher, student = (nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                                      nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)).eval() for _ in range(2))
    images, counts = torch.randn(160, 1, 8, 8), []
    handle = teacher.register_forward_hook(lambda _module, args, _output: counts.append(len(args[0])))
    objective = Objective(same_classes(student, [teacher]))
    report = distill(student, objective, images[:128], images[128:], steps=80, lr=0.02, every=80, views=2, amp=amp)
    handle.remove()
    assert sum(counts) <= 2 * 128 + 2 * 32  # of views, and of held-out images before and after
    assert report.agreement[80] > report.agreement[0] + 20 and next(student.parameters()).dtype == torch.float32
