"use strict";
// The case browser of a report: a list of findings, and three planes cut from one small cube each.
// Every cube comes as one grey picture: its axial slices (z, from feet to head) tile it row by row.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const edge = data.edge, columns = data.columns, perTile = edge * edge;
  const byId = (id) => document.getElementById(id);
  const rowsElement = byId("rows"), list = byId("list"), viewer = byId("viewer");
  const words = { hit: "hit", miss: "missed", fp: "false positive", excluded: "excluded" };
  const colour = { lesion: "#56b4e9", candidate: "#f0c040" };
  const planes = ["axial", "coronal", "sagittal"];

  let shown = [], selected = null, cube = null, circles = true;
  let at = { axial: 0, coronal: 0, sagittal: 0 };
  let order = { key: "score", descending: true };

  // ---- list: filter, sort, draw
  const number = (id) => { const v = parseFloat(byId(id).value); return Number.isNaN(v) ? null : v; };

  function accepted(f) {
    const outcomes = [...document.querySelectorAll("input[name=outcome]:checked")].map((e) => e.value);
    const low = number("min-diameter"), high = number("max-diameter"), score = number("min-score");
    const part = byId("scan-filter").value.trim();
    return outcomes.includes(f.outcome)
      && (low === null || (f.diameter_mm !== null && f.diameter_mm >= low))
      && (high === null || (f.diameter_mm !== null && f.diameter_mm <= high))
      && (score === null || (f.score !== null && f.score >= score))
      && (part === "" || f.scan.includes(part));
  }

  function compare(a, b) {
    const x = a[order.key], y = b[order.key];
    if (x === y) return a.id - b.id;
    if (x === null) return 1;            // what has no value stands last, whichever the order
    if (y === null) return -1;
    const sign = typeof x === "string" ? x.localeCompare(y) : x - y;
    return order.descending ? -sign : sign;
  }

  const fixed = (value, digits) => (value === null ? "–" : value.toFixed(digits));

  function cell(row, text, kind) {
    const td = row.insertCell();
    td.textContent = text;
    td.className = kind;
    return td;
  }

  function drawList() {
    shown = data.findings.filter(accepted).sort(compare);
    rowsElement.replaceChildren();
    for (const f of shown) {
      const row = rowsElement.insertRow();
      row.dataset.id = f.id;
      row.setAttribute("aria-selected", f === selected);
      const mark = document.createElement("span");
      mark.className = "mark " + f.outcome;
      cell(row, words[f.outcome], "text").prepend(mark);
      cell(row, f.diameter_mm === null ? "–" : f.diameter_mm.toFixed(1) + " mm", "");
      cell(row, fixed(f.score, 3), "");
      cell(row, fixed(f.fp_per_scan, 2), "");
      cell(row, f.scan, "scan").title = f.scan;
      row.addEventListener("click", () => select(f));
    }
    byId("count").textContent = `${shown.length} of ${data.findings.length} findings`;
    for (const button of document.querySelectorAll(".list button")) {
      const mine = button.dataset.key === order.key;
      button.setAttribute("aria-sort", mine ? (order.descending ? "descending" : "ascending") : "none");
    }
    if (!shown.includes(selected)) select(shown[0] ?? null);
  }

  function move(step) {
    const next = shown[shown.indexOf(selected) + step];
    if (!next) return;
    select(next);
    rowsElement.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }

  // ---- viewer: one cube, three planes
  async function select(f) {
    selected = f;
    for (const row of rowsElement.rows) row.setAttribute("aria-selected", f !== null && +row.dataset.id === f.id);
    viewer.hidden = f === null;
    if (f === null) return;
    at = { axial: f.center[0], coronal: f.center[1], sagittal: f.center[2] };
    cube = null;
    const image = new Image();
    image.src = f.image;
    await image.decode();
    if (f !== selected) return;          // a faster click has overtaken this one
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const rgba = context.getImageData(0, 0, image.width, image.height).data;
    cube = new Uint8Array(edge * perTile);
    for (let z = 0; z < edge; z++) {
      const top = Math.floor(z / columns) * edge, left = (z % columns) * edge;
      for (let y = 0; y < edge; y++)
        for (let x = 0; x < edge; x++)
          cube[z * perTile + y * edge + x] = rgba[4 * ((top + y) * image.width + left + x)];
    }
    byId("caption").textContent = caption(f);
    drawPlanes();
    viewer.dataset.shows = f.id;
  }

  function caption(f) {
    const where = f.world_mm.map((v) => v.toFixed(1)).join(", ");
    const parts = [words[f.outcome], `at (${where}) mm LPS`];
    if (f.diameter_mm !== null) parts.push(`${f.diameter_mm.toFixed(1)} mm`);
    if (f.score !== null) parts.push(`score ${f.score.toFixed(3)}`);
    if (f.fp_per_scan !== null) parts.push(`reached at ${f.fp_per_scan.toFixed(2)} false positives per scan`);
    if (f.note) parts.push(f.note);
    return `${f.scan}: ${parts.join(", ")}`;
  }

  // Voxel (z, y, x) of pixel (row, column) in each plane; the head is at the top of coronal and sagittal.
  const voxel = {
    axial: (k, row, column) => [k, row, column],
    coronal: (k, row, column) => [edge - 1 - row, k, column],
    sagittal: (k, row, column) => [edge - 1 - row, column, k],
  };
  const through = { axial: 0, coronal: 1, sagittal: 2 };
  const onPlane = {
    axial: ([, y, x]) => [y, x],
    coronal: ([z, , x]) => [edge - 1 - z, x],
    sagittal: ([z, y]) => [edge - 1 - z, y],
  };

  function drawPlane(plane) {
    const k = at[plane], pixels = new ImageData(edge, edge);
    for (let row = 0; row < edge; row++)
      for (let column = 0; column < edge; column++) {
        const [z, y, x] = voxel[plane](k, row, column);
        const grey = cube[z * perTile + y * edge + x], i = 4 * (row * edge + column);
        pixels.data[i] = pixels.data[i + 1] = pixels.data[i + 2] = grey;
        pixels.data[i + 3] = 255;
      }
    const small = new OffscreenCanvas(edge, edge);
    small.getContext("2d").putImageData(pixels, 0, 0);
    const canvas = byId(plane), context = canvas.getContext("2d"), scale = canvas.width / edge;
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    if (circles) for (const ring of selected.rings) drawRing(context, ring, plane, scale);
    byId(plane + "-slider").value = k;
    const mm = (k - selected.center[through[plane]]) * selected.voxel_mm;
    byId(plane + "-at").textContent = `${mm > 0 ? "+" : ""}${mm.toFixed(1)} mm`;
  }

  function drawRing(context, ring, plane, scale) {
    const off = ring.center[through[plane]] - at[plane];
    const radius = Math.sqrt(Math.max(0, ring.radius ** 2 - off ** 2));   // the sphere's cut with this slice
    if (radius === 0) return;
    const [row, column] = onPlane[plane](ring.center);
    context.beginPath();
    context.setLineDash(ring.kind === "candidate" ? [7, 5] : []);
    context.strokeStyle = colour[ring.kind];
    context.lineWidth = 2;
    context.arc((column + 0.5) * scale, (row + 0.5) * scale, Math.max(radius, 1.5) * scale, 0, 2 * Math.PI);
    context.stroke();
  }

  const drawPlanes = () => planes.forEach(drawPlane);

  function scroll(plane, step) {
    if (cube === null) return;
    at[plane] = Math.min(edge - 1, Math.max(0, at[plane] + step));
    drawPlane(plane);
  }

  // ---- events
  byId("filters").addEventListener("input", drawList);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const button of document.querySelectorAll(".list button"))
    button.addEventListener("click", () => {
      const same = order.key === button.dataset.key;
      order = { key: button.dataset.key, descending: same ? !order.descending : true };
      drawList();
    });
  for (const plane of planes) {
    byId(plane).addEventListener("wheel", (event) => {
      event.preventDefault();
      scroll(plane, Math.sign(event.deltaY));
    }, { passive: false });
    byId(plane + "-slider").addEventListener("input", (event) => {
      scroll(plane, Number(event.target.value) - at[plane]);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input")) return;
    const plane = planes.includes(document.activeElement?.id) ? document.activeElement.id : "axial";
    const actions = {
      ArrowUp: () => move(-1), ArrowDown: () => move(1),
      ArrowLeft: () => scroll(plane, -1), ArrowRight: () => scroll(plane, 1),
      c: () => { circles = !circles; if (cube) drawPlanes(); },
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  });

  drawList();
})();
