/** One radiograph on Cornerstone3D, with its tools and what lies over it. */
import { Enums, init, RenderingEngine, utilities, type Types } from "@cornerstonejs/core";
import {
  addTool,
  Enums as ToolEnums,
  init as initTools,
  PanTool,
  ToolGroupManager,
  WindowLevelTool,
  ZoomTool,
} from "@cornerstonejs/tools";
import { imageId, register } from "./frames";
import { draw, type Corners, type Overlay } from "./overlay";

const ENGINE = "radiograph";
const VIEWPORT = "radiograph";
const TOOLS = "radiograph";
const { MouseBindings } = ToolEnums;

let ready = false;

function setUp(): void {
  if (ready) return;
  ready = true;
  init();
  initTools();
  register();
  for (const tool of [WindowLevelTool, PanTool, ZoomTool]) addTool(tool);
}

export class Viewer {
  private readonly engine: RenderingEngine;
  private readonly observer: ResizeObserver;
  private readonly rendered = () => this.drawOver();
  private overlay: Overlay = { heat: null, opacity: 0, outline: null, rows: 1, columns: 1 };
  private shown = "";
  private inverted = false;
  private over = false;

  constructor(
    private readonly element: HTMLDivElement,
    private readonly canvas: HTMLCanvasElement,
  ) {
    setUp();
    this.engine = new RenderingEngine(ENGINE);
    this.engine.enableElement({
      viewportId: VIEWPORT,
      type: Enums.ViewportType.STACK,
      element,
      defaultOptions: { background: [0, 0, 0] },
    });
    const tools = ToolGroupManager.createToolGroup(TOOLS) ?? ToolGroupManager.getToolGroup(TOOLS);
    if (!tools) throw new Error("no tool group");
    for (const tool of [WindowLevelTool, PanTool, ZoomTool]) tools.addTool(tool.toolName);
    tools.setToolActive(WindowLevelTool.toolName, {
      bindings: [{ mouseButton: MouseBindings.Primary }, { numTouchPoints: 1 }],
    });
    tools.setToolActive(PanTool.toolName, { bindings: [{ mouseButton: MouseBindings.Auxiliary }] });
    tools.setToolActive(ZoomTool.toolName, {
      bindings: [
        { mouseButton: MouseBindings.Secondary },
        { mouseButton: MouseBindings.Wheel },
        { numTouchPoints: 2 }, // pinching moves, too
      ],
    });
    tools.addViewport(VIEWPORT, ENGINE);
    element.addEventListener(Enums.Events.IMAGE_RENDERED, this.rendered);
    element.addEventListener("contextmenu", stop);
    this.observer = new ResizeObserver(() => this.engine.resize(true, true));
    this.observer.observe(element);
  }

  private get viewport(): Types.IStackViewport {
    return this.engine.getViewport(VIEWPORT) as Types.IStackViewport;
  }

  /** Show a frame; fulfilled when it is drawn, and false where another was asked for meanwhile. */
  async show(uid: string, frame: number): Promise<boolean> {
    const id = imageId(uid, frame);
    this.shown = id;
    this.inverted = false;
    await this.viewport.setStack([id]);
    if (this.over || this.shown !== id) return false;
    this.viewport.resetCamera();
    this.viewport.resetProperties();
    this.viewport.render();
    return true;
  }

  setOverlay(overlay: Overlay): void {
    this.overlay = overlay;
    this.drawOver();
  }

  invert(): void {
    this.inverted = !this.inverted;
    this.viewport.setProperties({ invert: this.inverted });
    this.viewport.render();
  }

  reset(): void {
    this.inverted = false;
    this.viewport.resetCamera();
    this.viewport.resetProperties();
    this.viewport.render();
  }

  destroy(): void {
    this.over = true;
    this.observer.disconnect();
    this.element.removeEventListener(Enums.Events.IMAGE_RENDERED, this.rendered);
    this.element.removeEventListener("contextmenu", stop);
    ToolGroupManager.destroyToolGroup(TOOLS);
    this.engine.destroy();
  }

  private drawOver(): void {
    draw(this.canvas, this.over ? null : this.corners(), this.overlay);
  }

  /** Where the image's corners are; (0, 0) is the upper left corner of the upper left pixel. */
  private corners(): Corners | null {
    if (!this.shown || this.viewport.getCurrentImageId() !== this.shown) return null;
    const { rows, columns } = this.overlay;
    const place = (column: number, row: number): [number, number] => {
      const world = utilities.imageToWorldCoords(this.shown, [column, row]);
      return this.viewport.worldToCanvas(world as Types.Point3) as [number, number];
    };
    return { origin: place(0, 0), right: place(columns, 0), down: place(0, rows) };
  }
}

function stop(event: Event): void {
  event.preventDefault();
}
