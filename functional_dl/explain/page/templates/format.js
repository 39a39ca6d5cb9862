// ---- numbers, names and formulas as people read them

const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

function quantity(n, unit) {
  for (const [factor, prefix] of PREFIXES) {
    if (n >= 0.9995 * factor) return `${Number((n / factor).toPrecision(3))} ${prefix}${unit}`;
  }
  return `${Math.round(n)} ${unit}`.trim();
}

function number(x, precision = 3) {
  if (x === null || x === undefined) return "";
  if (typeof x === "string") return x.replace("inf", "∞").replace("-", "−");
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e5 || size < 1e-3 ? x.toExponential(2) : String(Number(x.toPrecision(precision)));
  const [mantissa, power] = text.split("e");
  return (power ? `${mantissa}e${Number(power)}` : mantissa).replaceAll("-", "−");
}

function share(part, whole) {
  if (!part || !whole) return "";
  const percent = (100 * part) / whole;
  return percent < 0.1 ? "<0.1 %" : `${percent.toFixed(1)} %`;
}

function shapeText(value) {
  return value.shape.length ? value.shape.join("×") : "scalar";
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function formula(latex, display = true) {
  const made = element(display ? "div" : "span", { class: display ? "formula" : "inline" });
  temml.render(latex, made, { displayMode: display, throwOnError: false, trust: false });
  return made;
}

// The name with a bar over it: the cotangent.
function barred(latex) {
  const [, stem, rest] = latex.match(/^(\\[a-z]+\{[^{}]*\}|\\[A-Za-z]+|.)(.*)$/s);
  return stem.length > 1 && stem.includes("{") ? `\\overline{${stem}}${rest}` : `\\bar{${stem}}${rest}`;
}

function plural(n, word) {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}
