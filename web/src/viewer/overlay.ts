/** The heat map over the radiograph: drawn on a canvas of its own, with the viewport's own geometry. */

/** Colours from cold to hot, of matplotlib's "inferno": ordered in brightness, so that no colour has to be told from another. */
const INFERNO = [
  [0, 0, 4],
  [31, 12, 72],
  [85, 15, 109],
  [136, 34, 106],
  [186, 54, 85],
  [227, 89, 51],
  [249, 140, 10],
  [249, 201, 50],
  [252, 255, 164],
] as const;

/** Below it nothing is drawn: the model says nothing for the positive class there. */
const FLOOR = 0.15;

export interface Corners {
  /** Upper left, upper right and lower left corner of the image, in pixels of the viewport's element. */
  origin: [number, number];
  right: [number, number];
  down: [number, number];
}

export interface Overlay {
  heat: HTMLCanvasElement | null;
  opacity: number;
  outline: [number, number][] | null;
  rows: number;
  columns: number;
}

/** Colour an 8-bit grey picture: hot is bright and opaque, cold is dark and clear. */
export function colour(grey: ImageBitmap): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = grey.width;
  canvas.height = grey.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("no 2d canvas");
  context.drawImage(grey, 0, 0);
  const picture = context.getImageData(0, 0, grey.width, grey.height);
  for (let at = 0; at < picture.data.length; at += 4) {
    const heat = (picture.data[at] ?? 0) / 255;
    const [red, green, blue] = inferno(heat);
    picture.data[at] = red;
    picture.data[at + 1] = green;
    picture.data[at + 2] = blue;
    picture.data[at + 3] = heat <= FLOOR ? 0 : 255 * Math.min(1, ((heat - FLOOR) / (1 - FLOOR)) * 1.6);
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

function inferno(heat: number): [number, number, number] {
  const place = heat * (INFERNO.length - 1);
  const lower = Math.min(Math.floor(place), INFERNO.length - 2);
  const from = INFERNO[lower] ?? INFERNO[0];
  const to = INFERNO[lower + 1] ?? from;
  const share = place - lower;
  return [0, 1, 2].map((at) => (from[at] ?? 0) + share * ((to[at] ?? 0) - (from[at] ?? 0))) as [number, number, number];
}

/** Draw what lies over the image. Corners say where the viewport has the image now. */
export function draw(canvas: HTMLCanvasElement, corners: Corners | null, overlay: Overlay): void {
  const scale = devicePixelRatio;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  if (!context) return;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  if (!corners) return;
  const { origin, right, down } = corners;
  // From fractions of the image to pixels of the canvas.
  const toCanvas = [
    scale * (right[0] - origin[0]),
    scale * (right[1] - origin[1]),
    scale * (down[0] - origin[0]),
    scale * (down[1] - origin[1]),
    scale * origin[0],
    scale * origin[1],
  ] as const;
  if (overlay.heat && overlay.opacity > 0) {
    context.setTransform(...toCanvas);
    context.globalAlpha = overlay.opacity;
    context.imageSmoothingQuality = "high";
    context.drawImage(overlay.heat, 0, 0, 1, 1);
    context.globalAlpha = 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
  }
  if (overlay.outline && overlay.outline.length > 1) outline(context, toCanvas, overlay, scale);
}

function outline(
  context: CanvasRenderingContext2D,
  [a, b, c, d, e, f]: readonly [number, number, number, number, number, number],
  overlay: Overlay,
  scale: number,
): void {
  context.beginPath();
  for (const [column, row] of overlay.outline ?? []) {
    const x = column / overlay.columns;
    const y = row / overlay.rows;
    context.lineTo(a * x + c * y + e, b * x + d * y + f);
  }
  context.closePath();
  // A light line in a dark one is seen on white and on black.
  context.lineJoin = "round";
  context.strokeStyle = "rgb(0 0 0 / 0.7)";
  context.lineWidth = 4 * scale;
  context.stroke();
  context.strokeStyle = "#5ce1ff";
  context.lineWidth = 2 * scale;
  context.stroke();
}
