"""Pages in headless Chromium: nothing is asked for, nothing complains."""

import pytest

from cgdmer_jax.evaluators import tasks
from cgdmer_jax.pages import report
from tests.html import browser, test_report

COLUMN = """[...document.querySelector('table.labels').tBodies[0].rows].map(
  row => row.cells[%d].textContent.trim())"""
CLICK = "document.querySelectorAll('table.labels thead button')[%d].click()"


@pytest.mark.skipif(not browser.find(), reason="no Chromium")
def test_a_page_in_a_browser(tmp_path):
  test_report.run(tmp_path)
  every = test_report.results()
  test_report.evaluation(tmp_path, every)
  path = report.write(tmp_path, every, tasks.TASKS)
  with browser.start(tmp_path / "profile") as page:
    page.look()
    page.open(path)
    first = page.evaluate(COLUMN % 0)
    counts = [int(x) for x in page.evaluate(COLUMN % 1)]
    page.evaluate(CLICK % 1)  # numbers: the greatest first
    by_count = [int(x) for x in page.evaluate(COLUMN % 1)]
    assert by_count == sorted(counts, reverse=True) != by_count[::-1]
    page.evaluate(CLICK % 1)
    assert [int(x) for x in page.evaluate(COLUMN % 1)] == by_count[::-1]
    page.evaluate(CLICK % 0)  # words: from A on
    names = page.evaluate(COLUMN % 0)
    assert names == sorted(first, key=str.lower)
    sort = "document.querySelectorAll('table.labels th')[0].ariaSort"
    assert page.evaluate(sort) == "ascending"
    # Labels without a score come last, up or down.
    for _ in range(2):
      page.evaluate(CLICK % 3)
      assert page.evaluate(COLUMN % 3)[-1] == ""
    check_screens(page)
    assert page.requests == [path.as_uri()]
    assert not page.complaints


def check_screens(page):
  """Light, dark, phone and paper."""
  ground = "getComputedStyle(document.body).backgroundColor"
  light = page.evaluate(ground)
  page.look(dark=True)
  assert page.evaluate(ground) != light == "rgb(255, 255, 255)"
  page.look(390, mobile=True)
  width = "document.documentElement.scrollWidth"
  assert page.evaluate(width) <= 390  # tables scroll, the page does not
  page.look(media="print")
  size = "document.querySelector('svg.ecg').getBoundingClientRect().width"
  view = "document.querySelector('svg.ecg').viewBox.baseVal.width"
  millimetres = page.evaluate(size) / 96 * 25.4
  assert millimetres == pytest.approx(page.evaluate(view), rel=1e-3)
