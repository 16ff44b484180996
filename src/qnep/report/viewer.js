// Atoms on a canvas that can be turned, zoomed and coloured. No dependencies.
"use strict";

const COLORS = {
  H: "#f2f2f2", Li: "#cc80ff", C: "#4a4a4a", N: "#3050f8", O: "#e6281e", F: "#7bd44b", Na: "#9a5cf0",
  P: "#ff8a1e", S: "#e8d020", Cl: "#1ff01f", K: "#8f40d4",
};
const RADII = {  // Å, covalent (Cordero et al., Dalton Trans. 2008, 2832)
  H: 0.31, Li: 1.28, C: 0.76, N: 0.71, O: 0.66, F: 0.57, Na: 1.66, P: 1.07, S: 1.05, Cl: 1.02, K: 2.03,
};
const METALS = new Set(["Li", "Na", "K", "Mg", "Al", "Ca", "Cu", "Zn"]);

class AtomViewer {
  constructor(canvas, snapshots) {
    this.canvas = canvas;
    this.snapshots = snapshots;
    this.colorBy = "element";
    this.zoom = 1;
    this.rotation = multiply(rotationAbout("x", -1.25), rotationAbout("z", 0.5));
    this.sprites = new Map();
    this.listen();
    this.show(0);
  }

  show(index) {
    this.index = index;
    const s = this.snapshots[index];
    this.center = centerOf(s);
    this.bonds = this.bonds_of(s);
    this.draw();
  }

  bonds_of(s) {
    const cells = new Map();
    const size = 2.4;
    const key = p => p.map(x => Math.floor(x / size));
    s.positions.forEach((p, i) => {
      const k = key(p).join();
      if (!cells.has(k)) cells.set(k, []);
      cells.get(k).push(i);
    });
    const bonds = [];
    s.positions.forEach((p, i) => {
      if (METALS.has(s.symbols[i])) return;
      const [a, b, c] = key(p);
      for (let x = a - 1; x <= a + 1; x++)
        for (let y = b - 1; y <= b + 1; y++)
          for (let z = c - 1; z <= c + 1; z++)
            for (const j of cells.get([x, y, z].join()) || [])
              if (j > i && !METALS.has(s.symbols[j]) && isBonded(s, i, j)) bonds.push([i, j]);
    });
    return bonds;
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", event => {
      this.drag = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", event => {
      if (!this.drag) return;
      this.turn((event.clientX - this.drag[0]) * 0.01, (event.clientY - this.drag[1]) * 0.01);
      this.drag = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointerup", () => { this.drag = null; });
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      this.zoom *= Math.exp(-event.deltaY * 0.001);
      this.draw();
    }, { passive: false });
    canvas.addEventListener("keydown", event => {
      const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.turn(...step);
    });
    window.addEventListener("resize", () => this.draw());
  }

  turn(aboutVertical, aboutHorizontal) {
    this.rotation = multiply(
      rotationAbout("x", aboutHorizontal), multiply(rotationAbout("y", aboutVertical), this.rotation));
    this.draw();
  }

  color(s, i) {
    if (this.colorBy === "charge" && s.charges) return chargeColor(s.charges[i]);
    return COLORS[s.symbols[i]] || "#d48ab0";
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const s = this.snapshots[this.index];
    const scale = this.zoom * 0.98 * Math.min(width, height) / extentOf(s, this.center);
    const place = p => {
      const q = apply(this.rotation, [p[0] - this.center[0], p[1] - this.center[1], p[2] - this.center[2]]);
      return [width / 2 + q[0] * scale, height / 2 - q[1] * scale, q[2]];
    };
    this.drawCell(context, s, place);
    const points = s.positions.map(place);
    const items = points.map((p, i) => [p[2], i, -1]);
    for (const [i, j] of this.bonds) items.push([(points[i][2] + points[j][2]) / 2, i, j]);
    items.sort((a, b) => a[0] - b[0]);
    context.lineCap = "round";
    for (const [, i, j] of items) {
      if (j >= 0) this.drawBond(context, points[i], points[j], scale);
      else this.drawAtom(context, points[i], this.color(s, i), (RADII[s.symbols[i]] || 1.2) * 0.55 * scale);
    }
  }

  drawCell(context, s, place) {
    const [a, b, c] = s.cell;
    if (!a.some(Boolean)) return;
    const corner = (i, j, k) => place([0, 1, 2].map(x => i * a[x] + j * b[x] + k * c[x]));
    context.strokeStyle = "#9aa3ad";
    context.lineWidth = 1;
    for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]])
      for (const ends of [[[0, u, v], [1, u, v]], [[u, 0, v], [u, 1, v]], [[u, v, 0], [u, v, 1]]]) {
        const [from, to] = ends.map(e => corner(...e));
        context.beginPath();
        context.moveTo(from[0], from[1]);
        context.lineTo(to[0], to[1]);
        context.stroke();
      }
  }

  drawBond(context, p, q, scale) {
    context.strokeStyle = "#8a8f96";
    context.lineWidth = Math.max(1, 0.16 * scale);
    context.beginPath();
    context.moveTo(p[0], p[1]);
    context.lineTo(q[0], q[1]);
    context.stroke();
  }

  drawAtom(context, p, color, radius) {
    const r = Math.max(radius, 1);
    context.drawImage(this.sprite(color), p[0] - r, p[1] - r, 2 * r, 2 * r);
  }

  sprite(color) {
    if (!this.sprites.has(color)) {
      const image = document.createElement("canvas");
      image.width = image.height = 64;
      const context = image.getContext("2d");
      const light = context.createRadialGradient(24, 22, 2, 32, 32, 31);
      light.addColorStop(0, "#ffffff");
      light.addColorStop(0.35, color);
      light.addColorStop(1, shade(color, 0.55));
      context.fillStyle = light;
      context.beginPath();
      context.arc(32, 32, 31, 0, 2 * Math.PI);
      context.fill();
      this.sprites.set(color, image);
    }
    return this.sprites.get(color);
  }
}

function isBonded(s, i, j) {
  const p = s.positions[i], q = s.positions[j];
  const d2 = (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 + (p[2] - q[2]) ** 2;
  return d2 < (1.25 * ((RADII[s.symbols[i]] || 1.2) + (RADII[s.symbols[j]] || 1.2))) ** 2;
}

function centerOf(s) {
  if (s.cell[0].some(Boolean)) return [0, 1, 2].map(x => (s.cell[0][x] + s.cell[1][x] + s.cell[2][x]) / 2);
  return [0, 1, 2].map(x => s.positions.reduce((sum, p) => sum + p[x], 0) / s.positions.length);
}

function extentOf(s, center) {
  const points = s.positions.concat(s.cell.map(v => [0, 1, 2].map(x => center[x] + v[x] / 2)));
  return 4 + 2 * Math.sqrt(points.reduce((most, p) =>
    Math.max(most, (p[0] - center[0]) ** 2 + (p[1] - center[1]) ** 2 + (p[2] - center[2]) ** 2), 0));
}

// blue (-1 e) over white to red (+1 e)
function chargeColor(q) {
  const t = Math.round(4 * Math.max(-1, Math.min(1, q))) / 4;
  const fade = Math.round(255 * (1 - Math.abs(t)));
  const part = fade.toString(16).padStart(2, "0");
  return t < 0 ? `#${part}${part}ff` : `#ff${part}${part}`;
}

function shade(color, factor) {
  return "#" + [1, 3, 5].map(k =>
    Math.round(parseInt(color.slice(k, k + 2), 16) * factor).toString(16).padStart(2, "0")).join("");
}

function rotationAbout(axis, angle) {
  const c = Math.cos(angle), s = Math.sin(angle);
  if (axis === "x") return [[1, 0, 0], [0, c, -s], [0, s, c]];
  if (axis === "y") return [[c, 0, s], [0, 1, 0], [-s, 0, c]];
  return [[c, -s, 0], [s, c, 0], [0, 0, 1]];
}

function multiply(a, b) {
  return a.map(row => [0, 1, 2].map(j => row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]));
}

function apply(m, v) {
  return m.map(row => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
}
