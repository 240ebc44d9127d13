"""The HTML page in a real browser: headless Chromium with software WebGL, no server and no network.

A script is added behind the page's own; it does what a hand would do, and leaves what it saw in the document, which
`--dump-dom` prints. Without a browser these tests skip, unless OVSEG3D_REQUIRE_BROWSER=1.
"""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapes import PHRASES, in_world, sphere_cloud

from ovseg3d.export.labelled import LabelledCloud
from ovseg3d.export.page import save_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars",
    "--no-first-run", "--disable-extensions", "--enable-logging=stderr", "--virtual-time-budget=6000",
)  # fmt: skip
HANDS = """<script>
(async () => {
  const seen = {}, wait = () => new Promise(done => setTimeout(done, 60));
  canvas.setPointerCapture = () => {};
  const rest = async () => { await wait(); await wait(); draw(); };
  /* Pixels in the canvas that are like a colour, whatever its shade. */
  const like = rgb => {
    const out = new Uint8Array(width * height * 4);
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame); gl.readBuffer(gl.COLOR_ATTACHMENT0);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, out);
    let count = 0; const size = Math.hypot(...rgb);
    for (let k = 0; k < out.length; k += 4) {
      const own = Math.hypot(out[k], out[k + 1], out[k + 2]);
      if (own > 20 && (out[k] * rgb[0] + out[k + 1] * rgb[1] + out[k + 2] * rgb[2]) / own / size > 0.999) count++;
    }
    return count;
  };
  const on = p => { const m = both, w = m[3] * p[0] + m[7] * p[1] + m[11] * p[2] + m[15];
    return [((m[0] * p[0] + m[4] * p[1] + m[8] * p[2] + m[12]) / w * .5 + .5) * canvas.clientWidth,
            (.5 - (m[1] * p[0] + m[5] * p[1] + m[9] * p[2] + m[13]) / w * .5) * canvas.clientHeight]; };
  const hand = (kind, clientX, clientY) =>
    canvas.dispatchEvent(new PointerEvent(kind, { clientX, clientY, pointerId: 1, button: 0 }));
  await rest();
  __DO__
  document.body.insertAdjacentHTML("beforeend", "<pre id=seen></pre>");
  document.getElementById("seen").textContent = JSON.stringify(seen);
})();
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("OVSEG3D_REQUIRE_BROWSER") == "1":
            pytest.fail("OVSEG3D_REQUIRE_BROWSER=1, and there is no Chromium")
        pytest.skip("no Chromium here")
    return found


def visit(browser: str, folder: Path, cloud: LabelledCloud, do: str, words: str = "") -> dict[str, Any]:
    """What the script `do` put into `seen`; fails on any error of the page."""
    page = folder / "page.html"
    save_page(page, cloud)
    page.write_text(page.read_text(encoding="utf-8") + HANDS.replace("__DO__", do), encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [browser, *FLAGS, profile, "--window-size=1000,700", "--dump-dom", f"{page.as_uri()}#{words}"],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)
    errors = re.findall(r"CONSOLE.*?\] (.*)", done.stderr)
    assert found and not errors, errors or done.stdout[-500:] + done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def test_a_hand_on_the_page(browser: str, tmp_path: Path) -> None:
    """A sphere, red above (instance 4) and blue below: seen, hidden, named, turned."""
    do = """
    seen.legend = [...document.querySelectorAll(".row b")].map(b => b.textContent);
    seen.red = like([200, 10, 20]); seen.blue = like([50, 60, 220]);
    document.querySelector(".row:nth-child(3) .pick").click(); await rest();
    seen.hidden = [like([200, 10, 20]), like([50, 60, 220])];
    document.querySelector(".row:nth-child(3) .pick").click();
    document.querySelector(".row:nth-child(2) .only").click(); await rest();
    seen.only = [like([200, 10, 20]), like([50, 60, 220])];
    document.querySelector(".head button").click(); await rest();
    const { center, size } = meta.instances[0];
    const [x, y] = on(center.map((c, i) => c + (i === UP ? size[2] / 2 * SIGN : 0)));
    hand("pointermove", x, y + 10); seen.over = document.getElementById("info").textContent;
    hand("pointerdown", x, y + 10); hand("pointerup", x, y + 10); await rest();
    seen.chosen = state.chosen; seen.lines = boxCount;
    hand("pointerdown", 950, 600); hand("pointerup", 950, 600); await rest();
    seen.freed = [state.chosen, boxCount];
    const before = eye.turn; hand("pointerdown", 500, 300); hand("pointermove", 600, 300); hand("pointerup", 600, 300);
    seen.turned = before - eye.turn;
    document.querySelector("[data-mode=photo]").click(); await rest();
    seen.photo = like([200, 10, 20]);
    document.getElementById("boxes").click(); await rest(); seen.boxes = boxCount;
    seen.names = [...document.querySelectorAll("#names span")].map(s => s.textContent);
    """
    for number, cloud, up, sign in ((0, sphere_cloud(), 2, 1), (1, in_world(sphere_cloud()), 1, -1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        seen = visit(browser, folder, cloud, do.replace("UP", str(up)).replace("SIGN", str(sign)))
        assert sorted(seen["legend"]) == sorted(PHRASES), "text is text, and what has no points is listed too"
        assert seen["red"] > 5000 and seen["blue"] > 1000
        assert min(seen["hidden"]) < 50 < max(seen["hidden"]) and min(seen["only"]) < 50 < max(seen["only"])
        assert seen["over"].startswith("a red ball") and "instance 4" in seen["over"]
        assert seen["chosen"] == 4 and seen["lines"] == 24 and seen["freed"] == [0, 0]
        assert seen["turned"] == pytest.approx(0.6) and seen["photo"] < 0.2 * seen["red"] and seen["boxes"] == 24
        assert seen["names"] == ["a red ball"]


def test_pages_with_nothing_to_tell(browser: str, tmp_path: Path) -> None:
    cloud = sphere_cloud()
    do = "seen.modes = modes.length; seen.mode = state.mode; seen.ready = document.body.dataset.ready;"
    for number, empty in enumerate((cloud.take(np.zeros(len(cloud), bool)), sphere_cloud(phrases=()))):
        (tmp_path / str(number)).mkdir()
        seen = visit(browser, tmp_path / str(number), empty, do, "photo,light,boxes")
        assert seen["ready"] == "true" and seen["mode"] == "photo"
