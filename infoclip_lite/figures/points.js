// A point cloud on a plain canvas: dragged, or turned with the arrow keys. `data` is what points.py packs.
function showPoints(root, data) {
  const canvas = root.querySelector("canvas"), paper = canvas.getContext("2d"), side = canvas.width;
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const place = new Int16Array(bytes(data.points).buffer);
  const looks = data.looks.map((look) => bytes(look.colours));
  const order = Array.from({length: place.length / 3}, (_, i) => i);
  let azimuth = 0.6, elevation = 0.5, shown = 0, held = null;

  function draw() {
    const ca = Math.cos(azimuth), sa = Math.sin(azimuth), ce = Math.cos(elevation), se = Math.sin(elevation);
    const seen = order.map((i) => {
      const x = place[3 * i], y = place[3 * i + 1], z = place[3 * i + 2];
      const back = sa * x + ca * z;
      return [ca * x - sa * z, ce * y - se * back, se * y + ce * back, i];
    });
    seen.sort((a, b) => a[2] - b[2]);  // the nearest last, over the others
    paper.fillStyle = "#fff";
    paper.fillRect(0, 0, side, side);
    for (const [x, y, depth, i] of seen) {
      const zoom = 1.3 * side / (85000 - depth), colour = looks[shown];
      paper.fillStyle = `rgb(${colour[3 * i]},${colour[3 * i + 1]},${colour[3 * i + 2]})`;
      paper.beginPath();
      paper.arc(side / 2 + x * zoom, side / 2 - y * zoom, 700 * zoom, 0, 7);
      paper.fill();
    }
  }

  function turn(across, up) {
    azimuth += across;
    elevation = Math.min(1.5, Math.max(-0.3, elevation + up));
    draw();
  }

  canvas.onpointerdown = (event) => {
    held = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointerup = () => { held = null; };
  canvas.onpointermove = (event) => {
    if (!held) return;
    turn((event.clientX - held[0]) / 120, (event.clientY - held[1]) / 120);
    held = [event.clientX, event.clientY];
  };
  const steps = {ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15]};
  canvas.onkeydown = (event) => {
    if (!(event.key in steps)) return;
    turn(...steps[event.key]);
    event.preventDefault();
  };
  data.looks.forEach((look, number) => {
    const button = document.createElement("button");
    button.textContent = look.name;
    button.onclick = () => { shown = number; draw(); };
    root.querySelector(".choices").append(button);
  });
  for (const [name, colour] of data.legend) {
    const entry = document.createElement("span"), mark = document.createElement("span");
    mark.textContent = "\u25cf ";
    mark.style.color = `rgb(${colour})`;
    entry.append(mark, name + "\u2003");
    root.querySelector(".legend").append(entry);
  }
  draw();
}
