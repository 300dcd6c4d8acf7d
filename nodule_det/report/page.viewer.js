"use strict";
// The viewer of a report: three planes cut from a small cube, and the whole axial slice.
// Every cube comes as one grey picture: its axial slices (z, from feet to head) tile it row by row.
// Grey levels map to HU by the knots of cubes.py, so that any window can be set here.
const makeViewer = (data) => {
  const edge = data.edge, perTile = edge * edge;
  const byId = (id) => document.getElementById(id);
  const style = getComputedStyle(document.documentElement);
  const colour = (outcome) => style.getPropertyValue(`--${outcome}`).trim();
  const planes = ["axial", "coronal", "sagittal"];
  const letters = { axial: "RLAP", coronal: "RLHF", sagittal: "APHF", whole: "RLAP" };  // left, right, top, bottom

  let shown = null, outcome = "hit", cube = null, whole = null, circles = true;
  let at = { axial: 0, coronal: 0, sagittal: 0 };
  let width = data.windows[0].width, level = data.windows[0].level;

  // ---- pixels: grey level -> HU -> display
  const hu = new Float32Array(256);
  for (let g = 0, k = 0; g < 256; g++) {
    while (k < data.knots.grey.length - 2 && g > data.knots.grey[k + 1]) k++;
    const [g0, g1] = data.knots.grey.slice(k), [h0, h1] = data.knots.hu.slice(k);
    hu[g] = h0 + ((g - g0) / (g1 - g0)) * (h1 - h0);
  }
  const displayed = () => hu.map((v) => Math.min(255, Math.max(0, 255 * ((v - level) / width + 0.5))));

  async function decode(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const rgba = context.getImageData(0, 0, image.width, image.height).data;
    const grey = new Uint8Array(image.width * image.height);
    for (let i = 0; i < grey.length; i++) grey[i] = rgba[4 * i];
    return { grey, width: image.width, height: image.height };
  }

  function untile(picture) {
    const out = new Uint8Array(edge * perTile);
    for (let z = 0; z < edge; z++) {
      const top = Math.floor(z / data.columns) * edge, left = (z % data.columns) * edge;
      for (let y = 0; y < edge; y++) {
        const from = (top + y) * picture.width + left;
        out.set(picture.grey.subarray(from, from + edge), z * perTile + y * edge);
      }
    }
    return out;
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

  // ---- drawing
  function paint(canvas, columns, rows, greyAt) {
    const table = displayed(), pixels = new ImageData(columns, rows);
    for (let row = 0, i = 0; row < rows; row++)
      for (let column = 0; column < columns; column++, i += 4) {
        pixels.data[i] = pixels.data[i + 1] = pixels.data[i + 2] = table[greyAt(row, column)];
        pixels.data[i + 3] = 255;
      }
    const small = new OffscreenCanvas(columns, rows);
    small.getContext("2d").putImageData(pixels, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    return context;
  }

  function write(context, text, x, y) {
    context.font = "bold 15px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = "#000";
    context.strokeText(text, x, y);
    context.fillStyle = "#fff";
    context.fillText(text, x, y);
  }

  function annotate(context, plane, mmPerPixel) {
    const { width: w, height: h } = context.canvas;
    const [left, right, top, bottom] = letters[plane];
    write(context, left, 11, h / 2);
    write(context, right, w - 11, h / 2);
    write(context, top, w / 2, 11);
    write(context, bottom, w / 2, h - 11);
    const mm = mmPerPixel * w > 150 ? 50 : 10, length = mm / mmPerPixel;
    context.fillStyle = "#000";
    context.fillRect(9, h - 14, length + 2, 6);
    context.fillStyle = "#fff";
    context.fillRect(10, h - 13, length, 4);
    write(context, `${mm} mm`, 10 + Math.max(length / 2, 26), h - 26);
  }

  function ringStyle(context, kind) {
    context.setLineDash(kind === "candidate" ? [7, 5] : []);
    context.strokeStyle = colour(outcome);
    context.lineWidth = 2;
  }

  function drawRing(context, ring, plane, scale) {
    const off = ring.center[through[plane]] - at[plane];
    const radius = Math.sqrt(Math.max(0, ring.radius ** 2 - off ** 2));   // the sphere's cut with this slice
    if (radius === 0) return;
    const [row, column] = onPlane[plane](ring.center);
    context.beginPath();
    ringStyle(context, ring.kind);
    context.arc((column + 0.5) * scale, (row + 0.5) * scale, Math.max(radius, 1.5) * scale, 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
  }

  function drawPlane(plane) {
    const k = at[plane], canvas = byId(plane), scale = canvas.width / edge;
    const context = paint(canvas, edge, edge, (row, column) => {
      const [z, y, x] = voxel[plane](k, row, column);
      return cube[z * perTile + y * edge + x];
    });
    if (circles) for (const ring of shown.rings) drawRing(context, ring, plane, scale);
    if (circles) annotate(context, plane, shown.voxel_mm / scale);
    byId(plane + "-slider").value = k;
    byId(plane + "-at").textContent = position(plane, k);
    canvas.setAttribute("aria-label", `${plane} slice, ${position(plane, k)}`);
  }

  function position(plane, k) {
    const mm = (k - shown.center[through[plane]]) * shown.voxel_mm;
    const offset = `${mm > 0 ? "+" : ""}${mm.toFixed(1)} mm`;
    return plane === "axial" ? `${offset}, ${sliceAt(shown.first_mm[2] + k * shown.voxel_mm)}` : offset;
  }

  function sliceAt(z) {
    // Readers count from the head or from the feet: both numbers, of the source series where it is known.
    const { first_mm, step_mm, n, resampled } = shown.slices, k = Math.round((z - first_mm) / step_mm) + 1;
    const z_mm = `z ${z.toFixed(1)} mm`;
    if (!n || k < 1 || k > n) return z_mm;
    return `${z_mm}, slice ${n + 1 - k} of ${n}${resampled ? " of the resampled scan" : ""} from the head (${k} from feet)`;
  }

  function drawWhole() {
    const canvas = byId("whole");
    canvas.height = Math.round((canvas.width * whole.height) / whole.width);
    const scale = canvas.width / whole.width;
    const context = paint(canvas, whole.width, whole.height, (row, column) => whole.grey[row * whole.width + column]);
    const [x, y] = shown.axial.place.map((v) => (v + 0.5) * scale);
    const half = ((edge / 2) * shown.voxel_mm * scale) / shown.axial.pixel_mm;
    if (circles) {
      context.strokeStyle = colour(outcome);
      context.lineWidth = 2;
      context.strokeRect(x - half, y - half, 2 * half, 2 * half);
      annotate(context, "whole", shown.axial.pixel_mm / scale);
    }
    canvas.setAttribute("aria-label", `whole axial slice at z ${shown.world_mm[2].toFixed(1)} mm`);
  }

  function draw() {
    if (cube === null) return;
    planes.forEach(drawPlane);
    drawWhole();
    byId("window-at").textContent = `W ${Math.round(width)} L ${Math.round(level)} HU`;
    document.querySelectorAll("button.window").forEach((button, i) => {
      const w = data.windows[i];
      button.setAttribute("aria-pressed", w.width === width && w.level === level);
    });
  }

  // ---- what the page may do
  const viewer = {
    planes,
    async show(finding, as) {
      [shown, outcome] = [finding, as];
      cube = null;
      if (finding === null) return false;
      const [tiles, slice] = await Promise.all([decode(finding.image), decode(finding.axial.image)]);
      if (finding !== shown) return false;          // a faster click has overtaken this one
      at = { axial: finding.center[0], coronal: finding.center[1], sagittal: finding.center[2] };
      [cube, whole] = [untile(tiles), slice];
      draw();
      return true;
    },
    scroll(plane, step) {
      if (cube === null) return;
      at[plane] = Math.min(edge - 1, Math.max(0, at[plane] + step));
      drawPlane(plane);
    },
    to(plane, k) { viewer.scroll(plane, k - at[plane]); },
    setWindow(number) { ({ width, level } = data.windows[number]); draw(); },
    changeWindow(wider, higher) { width = Math.min(4000, Math.max(10, width + wider)); level += higher; draw(); },
    setCircles(on) { circles = on; draw(); },
    toggleCircles() { viewer.setCircles(!circles); return circles; },
    slice: () => sliceAt(shown.world_mm[2]),
    pictures: () => [...planes, "whole"].map((id) => byId(id).toDataURL("image/jpeg", 0.85)),
  };
  return viewer;
};
