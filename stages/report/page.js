"use strict";
// Draws the map of the records and tells what the one under the pointer says; unfolds sections for printing.
(() => {
  const held = document.getElementById("points");
  const canvas = document.getElementById("map");
  const folded = [];
  let repaint = () => {};
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("section > details:not([open])")) { folded.push(one); one.open = true; }
    repaint(true);
  });
  addEventListener("afterprint", () => {
    for (const one of folded.splice(0)) one.open = false;
    repaint();
  });
  if (!held || !canvas) return;

  const data = JSON.parse(held.textContent);
  const tip = document.getElementById("tip");
  const pen = canvas.getContext("2d");
  const [OTHER, CHOSEN, DUPLICATE] = [0, 1, 2];
  const FATES = ["not chosen", "chosen", "duplicate, dropped"];
  const MARGIN = 18, REACH = 14, CELL = 28;
  const count = data.x.length;
  const largest = (values) => values.reduce((a, b) => Math.max(a, b), 1);
  const most = { x: largest(data.x), y: largest(data.y) };
  const px = new Float32Array(count), py = new Float32Array(count);
  let cells = new Map(), width = 0, height = 0;

    const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (topic) => css(`--c${topic % 6}`);
  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];

  function lay() {
    width = canvas.clientWidth;
    height = Math.round(Math.max(300, Math.min(width * 0.62, 640)));
    const scale = Math.min((width - 2 * MARGIN) / most.x, (height - 2 * MARGIN) / most.y);
    const left = (width - scale * most.x) / 2, top = (height - scale * most.y) / 2;
    cells = new Map();
    for (let n = 0; n < count; n++) {
      px[n] = left + data.x[n] * scale;
      py[n] = height - top - data.y[n] * scale;
      const key = `${px[n] / CELL | 0},${py[n] / CELL | 0}`;
      cells.has(key) ? cells.get(key).push(n) : cells.set(key, [n]);
    }
    const dense = window.devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
    pen.setTransform(dense, 0, 0, dense, 0, 0);
  }

  function paint() {
    pen.clearRect(0, 0, width, height);
    const size = Math.max(1.2, Math.min(3, 60 / Math.sqrt(count)));
    pen.globalAlpha = 0.55;
    pen.fillStyle = pen.strokeStyle = css("--soft");
    for (let n = 0; n < count; n++) {
      if (data.fate[n] === OTHER) dot(n, size);
      if (data.fate[n] === DUPLICATE) cross(n, size + 1);
    }
    pen.globalAlpha = 0.9;
    const colours = data.names.map((_, topic) => colour(topic));
    for (let n = 0; n < count; n++) {
      if (data.fate[n] !== CHOSEN) continue;
      pen.fillStyle = colours[data.topic[n]];
      dot(n, size * 1.5);
    }
    pen.globalAlpha = 1;
    names();
  }

  function dot(n, size) {
    pen.beginPath();
    pen.arc(px[n], py[n], size, 0, 7);
    pen.fill();
  }

  function cross(n, size) {
    pen.beginPath();
    pen.moveTo(px[n] - size, py[n] - size); pen.lineTo(px[n] + size, py[n] + size);
    pen.moveTo(px[n] - size, py[n] + size); pen.lineTo(px[n] + size, py[n] - size);
    pen.stroke();
  }

  // Each topic's number and name at its middle, the number alone where there is no room.
  function names() {
    const font = getComputedStyle(document.body).fontFamily;
    pen.font = `12px ${font}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    const taken = [];
    data.names.forEach((name, topic) => {
      const mine = [];
      for (let n = 0; n < count; n++) if (data.topic[n] === topic) mine.push(n);
      if (!mine.length) return;
      const x = middle(mine.map((n) => px[n])), y = middle(mine.map((n) => py[n]));
      const number = String(topic + 1);
      const long = `${number} ${[...name].slice(0, 22).join("")}`;
      const tries = [...(width > 560 ? [0, -20, 20, -40, 40] : []).map((by) => [long, by]), ...[0, -20, 20, 40].map((by) => [number, by])];
      tries.push([number, 0]);
      for (const [place, [text, by]] of tries.entries()) {
        const half = pen.measureText(text).width / 2 + 5;
        const at = Math.max(half + 1, Math.min(width - half - 1, x)), up = Math.max(10, Math.min(height - 10, y + by));
        const box = [at - half, up - 9, at + half, up + 9];
        const free = taken.every((b) => b[2] < box[0] || b[0] > box[2] || b[3] < box[1] || b[1] > box[3]);
        if (!free && place < tries.length - 1) continue;
        taken.push(box);
        pen.fillStyle = css("--paper");
        pen.strokeStyle = colour(topic);
        pen.beginPath();
        pen.roundRect(box[0], box[1], 2 * half, 18, 4);
        pen.globalAlpha = 0.88;
        pen.fill();
        pen.globalAlpha = 1;
        pen.stroke();
        pen.fillStyle = css("--ink");
        pen.fillText(text, at, up);
        return;
      }
    });
  }

  function nearest(x, y) {
    let best = -1, close = REACH * REACH;
    for (let i = -1; i <= 1; i++) for (let j = -1; j <= 1; j++) {
      for (const n of cells.get(`${(x / CELL | 0) + i},${(y / CELL | 0) + j}`) || []) {
        const far = (px[n] - x) ** 2 + (py[n] - y) ** 2;
        if (far < close) { close = far; best = n; }
      }
    }
    return best;
  }

  function tell(event) {
    const box = canvas.getBoundingClientRect();
    const n = nearest(event.clientX - box.left, event.clientY - box.top);
    tip.hidden = n < 0;
    if (n < 0) return;
    const head = document.createElement("b"), foot = document.createElement("small");
    const topic = data.topic[n];
    head.textContent = topic >= 0 ? `${topic + 1} ${data.names[topic] || ""}` : "";
    foot.textContent = `${FATES[data.fate[n]]} · ${data.id[n]}`;
    tip.replaceChildren(head, document.createTextNode(data.text[n]), document.createElement("br"), foot);
    const right = px[n] > width / 2, low = py[n] > height / 2;
    tip.style.left = right ? "" : `${px[n] + 12}px`;
    tip.style.right = right ? `${width - px[n] + 12}px` : "";
    tip.style.top = low ? "" : `${py[n] + 12}px`;
    tip.style.bottom = low ? `${height - py[n] + 12}px` : "";
  }

  repaint = () => { lay(); paint(); };
  canvas.addEventListener("pointermove", tell);
  canvas.addEventListener("pointerdown", tell);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  new ResizeObserver(() => { if (canvas.clientWidth !== width) repaint(); }).observe(canvas);
  repaint();
})();
