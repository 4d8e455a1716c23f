import { number } from "../words/format";

const WIDTH = 600;
const HEIGHT = 190;
const LEFT = 44;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 24;

export interface Bar {
  label: string;
  total: number;
  /** Parts of the total that are drawn from the bottom, with the class that colours them. */
  parts: { value: number; kind: string }[];
}

export interface Line {
  kind: string;
  points: { label: string; value: number; low: number; high: number }[];
}

/** Highest value of an axis: 1, 2 or 5 times a power of ten. */
function ceiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  const times = [1, 2, 5, 10].find((one) => one * power >= value) ?? 10;
  return times * power;
}

function Axis(props: { top: number; words: (value: number) => string; first: string; last: string }) {
  return (
    <>
      {[0, 0.5, 1].map((share) => (
        <g key={share}>
          <line class="grid" x1={LEFT} x2={WIDTH - RIGHT} y1={place(share)} y2={place(share)} />
          <text x={LEFT - 6} y={place(share) + 4} text-anchor="end">
            {props.words(share * props.top)}
          </text>
        </g>
      ))}
      <text x={LEFT} y={HEIGHT - 6}>
        {props.first}
      </text>
      {props.last !== props.first && (
        <text x={WIDTH - RIGHT} y={HEIGHT - 6} text-anchor="end">
          {props.last}
        </text>
      )}
    </>
  );
}

function place(share: number): number {
  return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);
}

export function Bars(props: { bars: Bar[]; title: string }) {
  const top = ceiling(Math.max(...props.bars.map((bar) => bar.total)));
  const step = (WIDTH - LEFT - RIGHT) / props.bars.length;
  const width = Math.min(28, Math.max(1, step * 0.8));
  return (
    <svg class="chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={props.title}>
      <Axis
        top={top}
        words={(value) => number(value)}
        first={props.bars[0]?.label ?? ""}
        last={props.bars.at(-1)?.label ?? ""}
      />
      {props.bars.map((bar, at) => {
        const x = LEFT + at * step + (step - width) / 2;
        let below = 0;
        return (
          <g key={bar.label}>
            <title>{`${bar.label}: ${[bar.total, ...bar.parts.map((part) => part.value)].join(" / ")}`}</title>
            <rect
              class="bar"
              x={x}
              width={width}
              y={place(bar.total / top)}
              height={place(0) - place(bar.total / top)}
            />
            {bar.parts.map((part) => {
              const from = below;
              below += part.value;
              return (
                <rect
                  key={part.kind}
                  class={`bar ${part.kind}`}
                  x={x}
                  width={width}
                  y={place(below / top)}
                  height={place(from / top) - place(below / top)}
                />
              );
            })}
          </g>
        );
      })}
    </svg>
  );
}

/** Shares in [0, 1] with their intervals, one mark for each point; lines have different marks, not only colours. */
export function Shares(props: { lines: Line[]; labels: string[]; title: string }) {
  const step = (WIDTH - LEFT - RIGHT) / Math.max(1, props.labels.length);
  return (
    <svg class="chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={props.title}>
      <Axis top={100} words={(value) => `${value} %`} first={props.labels[0] ?? ""} last={props.labels.at(-1) ?? ""} />
      {props.lines.map((line, which) => {
        const placed = line.points.map((point) => ({
          ...point,
          x: LEFT + (props.labels.indexOf(point.label) + 0.5) * step + (which - (props.lines.length - 1) / 2) * 6,
        }));
        return (
          <g key={line.kind} class={line.kind}>
            <polyline class="line" points={placed.map(({ x, value }) => `${x},${place(value)}`).join(" ")} />
            {placed.map((point) => (
              <g key={point.label}>
                <title>{`${point.label}: ${number(100 * point.value)} % (${number(100 * point.low)}–${number(100 * point.high)} %)`}</title>
                <line class="interval" x1={point.x} x2={point.x} y1={place(point.low)} y2={place(point.high)} />
                {which === 0 ? (
                  <circle cx={point.x} cy={place(point.value)} r="4" />
                ) : (
                  <rect x={point.x - 4} y={place(point.value) - 4} width="8" height="8" />
                )}
              </g>
            ))}
          </g>
        );
      })}
    </svg>
  );
}
