// Builds the report out of the data in the page.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const sections = new Map();
const PLOT = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
const ROWS_SHOWN = 25;

function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function section(name) {
  if (!sections.has(name)) {
    const node = element("section");
    node.id = "section-" + sections.size;
    node.append(element("h2", name));
    main.append(node);
    const link = element("a", name);
    link.href = "#" + node.id;
    document.getElementById("contents").append(link);
    sections.set(name, node);
  }
  return sections.get(name);
}

function figure(item) {
  const node = element("figure");
  node.dataset.name = item.name;
  node.append(element("h3", item.title));
  section(item.section).append(node);
  return node;
}

function caption(node, item, header, rows) {
  const text = element("figcaption", item.caption ? item.caption + " " : "");
  const button = element("button", "data (CSV)");
  button.className = "download";
  button.addEventListener("click", () => save(item.name + ".csv", csv(header, rows)));
  text.append(button);
  node.append(text);
}

function csv(header, rows) {
  const quote = value => {
    const text = String(value ?? "");
    return /[",\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  return [header, ...rows].map(row => row.map(quote).join(",")).join("\r\n") + "\r\n";
}

function save(name, text) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  document.body.dataset.saved = name;
}

function layout(extra) {
  return {
    margin: { l: 60, r: 10, t: 44, b: 50 }, height: 360, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { family: "inherit", size: 13 }, colorway: data.colors, // At the bottom: above the picture lie the buttons.
    legend: { font: { size: 11 }, orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0 },
    modebar: { bgcolor: "transparent", color: "#aab3bd", activecolor: "#1f5fa8" }, ...extra,
  };
}

function addChart(item) {
  const node = figure(item);
  const plot = element("div", undefined, "plot");
  node.append(plot);
  const traces = item.series.map(one => ({
    x: one.x, y: one.y, name: one.name, type: item.kind === "bar" ? "bar" : "scatter",
    mode: item.kind === "scatter" || one.x.length === 1 ? "markers" : "lines",
  }));
  const axes = {
    xaxis: { title: { text: item.x_label }, gridcolor: "#e3e6ea", automargin: true },
    yaxis: { title: { text: item.y_label }, gridcolor: "#e3e6ea", rangemode: item.kind === "bar" ? "tozero" : "normal" },
    showlegend: item.series.length > 1,
  };
  Plotly.newPlot(plot, traces, layout(axes), PLOT);
  caption(node, item, item.csv.header, item.csv.rows);
}

function addFlow(item) {
  const node = figure(item);
  const plot = element("div", undefined, "plot");
  node.append(plot);
  const trace = {
    type: "sankey", orientation: "h", node: { label: item.nodes, pad: 14, thickness: 14, color: "#4a6fa5" },
    link: {
      source: item.links.map(l => l[0]), target: item.links.map(l => l[1]), value: item.links.map(l => l[2]),
      color: "rgba(90,130,180,0.35)",
    },
  };
  Plotly.newPlot(plot, [trace], layout({ height: 420 }), PLOT);
  caption(node, item, item.csv.header, item.csv.rows);
}

function addTable(item) {
  const node = figure(item);
  if (!item.rows.length) {
    node.append(element("p", "none seen"));
    return;
  }
  if (item.header.length > 4) node.classList.add("wide");
  const filter = element("input");
  filter.type = "search";
  filter.placeholder = "filter rows";
  filter.setAttribute("aria-label", "filter rows of " + item.title);
  const frame = element("div", undefined, "table");
  const table = element("table");
  const head = element("tr");
  let order = { column: -1, up: true };
  item.header.forEach((name, k) => {
    const cell = element("th", name);
    cell.addEventListener("click", () => {
      order = { column: k, up: order.column === k ? !order.up : true };
      fill();
    });
    head.append(cell);
  });
  const body = element("tbody");
  const more = element("button", "");
  let shown = ROWS_SHOWN;
  function fill() {
    const text = filter.value.toLowerCase();
    let rows = item.rows.filter(row => row.join(" ").toLowerCase().includes(text));
    if (order.column >= 0) rows = [...rows].sort((a, b) => compare(a[order.column], b[order.column]) * (order.up ? 1 : -1));
    body.replaceChildren(...rows.slice(0, shown).map(row => {
      const line = element("tr");
      line.append(...row.map(value => element("td", String(value ?? ""))));
      return line;
    }));
    more.hidden = rows.length <= shown;
    more.textContent = `show all ${rows.length} rows`;
  }
  filter.addEventListener("input", fill);
  more.addEventListener("click", () => { shown = Infinity; fill(); });
  const thead = element("thead");
  thead.append(head);
  table.append(thead, body);
  frame.append(table);
  if (item.rows.length > 8) node.append(filter);
  node.append(frame, more);
  caption(node, item, item.header, item.rows);
  fill();
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function addDrawing(item) {
  const node = figure(item);
  const image = element("img");
  image.alt = item.title;
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(item.svg);
  node.append(image);
  if (item.caption) node.append(element("figcaption", item.caption));
}

function addSnapshots(snapshots) {
  const node = figure({ name: "snapshots", section: "Snapshots", title: "Drag to turn, wheel to zoom" });
  node.classList.add("wide");
  const canvas = element("canvas");
  canvas.tabIndex = 0;
  canvas.id = "viewer";
  const bar = element("div", undefined, "bar");
  const label = element("output", snapshots[0].label);
  const slider = element("input");
  Object.assign(slider, { type: "range", min: 0, max: snapshots.length - 1, value: 0 });
  slider.id = "frame-slider";
  slider.setAttribute("aria-label", "snapshot");
  const color = element("select");
  color.id = "color-by";
  color.setAttribute("aria-label", "colour by");
  for (const name of snapshots[0].charges ? ["element", "charge"] : ["element"]) color.append(new Option("colour: " + name, name));
  bar.append(slider, label, color, legend(snapshots));
  node.append(canvas, bar);
  const viewer = new AtomViewer(canvas, snapshots);
  slider.addEventListener("input", () => {
    viewer.show(Number(slider.value));
    label.textContent = snapshots[viewer.index].label;
  });
  color.addEventListener("change", () => { viewer.colorBy = color.value; viewer.draw(); });
  window.viewer = viewer;
}

function legend(snapshots) {
  const node = element("span", undefined, "legend");
  for (const symbol of [...new Set(snapshots[0].symbols)].sort()) {
    const dot = element("i");
    dot.style.background = COLORS[symbol] || "#d48ab0";
    node.append(dot, symbol + " ");
  }
  return node;
}

if (data.snapshots.length) addSnapshots(data.snapshots);
for (const name of data.order) {
  data.charts.filter(c => c.section === name).forEach(addChart);
  data.flows.filter(c => c.section === name).forEach(addFlow);
  data.drawings.filter(c => c.section === name).forEach(addDrawing);
  data.tables.filter(c => c.section === name).forEach(addTable);
}
document.body.dataset.ready = "true";
