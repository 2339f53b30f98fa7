#include "duet/train/report_style.h"

namespace duet::train {

// --c is the colour of the method that an element belongs to; c0 to c5 set it.
const char* const report_style = R"css(
:root{color-scheme:light dark;--bg:#fbfaf8;--panel:#fff;--ink:#1d2126;--muted:#646b74;--line:#e4e1db;--soft:#f3f1ec;
--m0:#2a66b1;--m1:#c2541b;--m2:#2f8563;--m3:#8156b3;--m4:#777d86;--m5:#a8823a;--miss:#b8323c;--on:#fff}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--panel:#1b1f25;--ink:#e8e9eb;--muted:#9aa2ad;--line:#2e343c;
--soft:#22272e;--m0:#78aef0;--m1:#f0945c;--m2:#6cc5a0;--m3:#bd9ae6;--m4:#a9afb8;--m5:#d6b26c;--miss:#f0747d;--on:#14171b}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"Noto Sans",sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
main,header,footer{max-width:1080px;margin:0 auto;padding:0 28px}
header{padding-top:44px}
h1{font-size:17px;font-weight:600;margin:0;letter-spacing:-.005em}
h2{font-size:22px;font-weight:650;letter-spacing:-.01em;line-height:1.25;margin:0 0 6px}
h2+.legend{margin-top:14px}h2+.panel{margin-top:18px}
h3{font-size:15px;font-weight:650;margin:0 0 8px}
p{margin:0 0 12px;max-width:74ch}
section{margin:60px 0 0}
.meta,.note,figcaption{color:var(--muted);font-size:14px}
.note{margin:0 0 20px}
.decision{background:var(--panel);border:1px solid var(--line);border-top:5px solid var(--c,var(--muted));border-radius:10px;
padding:34px 36px 28px;margin-top:22px}
.decision h2{font-size:clamp(32px,6vw,50px);font-weight:700;letter-spacing:-.025em;line-height:1.08;color:var(--c,var(--ink));margin:0 0 14px}
.decision .why{font-size:clamp(18px,2.4vw,21px);line-height:1.5;max-width:60ch;margin-bottom:26px}
.facts{display:grid;grid-template-columns:repeat(3,1fr);gap:22px 28px;margin:24px 0 0;padding:22px 0 0;border-top:1px solid var(--line)}
.facts dt{color:var(--muted);font-size:13px}
.facts dd{margin:2px 0 0;font-size:19px;font-weight:600;line-height:1.3}
.facts dd small{display:block;font-weight:400;font-size:13px;color:var(--muted)}
.cautions{margin:22px 0 0;padding:14px 18px 14px 34px;background:var(--soft);border-radius:8px;font-size:14.5px}
.cautions li+li{margin-top:4px}
.terms{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:16px 36px;margin:26px 0 0;font-size:15px}
.terms p{margin:0;padding-left:14px;border-left:3px solid var(--c)}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
.panel{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:20px 22px;min-width:0}
.grid{display:grid;gap:20px;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr))}
figure{margin:0}
table{border-collapse:collapse;width:100%;font-size:15px}
th,td{padding:10px 14px;text-align:right;vertical-align:middle;border-top:1px solid var(--line);white-space:nowrap}
thead th{border-top:0;color:var(--muted);font-weight:500;font-size:13px;vertical-align:bottom;padding-top:0}
tbody th{font-weight:600}
th:first-child,td:first-child{text-align:left;padding-left:0}
th:last-child,td:last-child{padding-right:0}
tbody th small,td small{display:block;font-weight:400;font-size:13px;color:var(--muted)}
td.left,th.left{text-align:left}
td.wrap{white-space:normal;min-width:160px}
.swatch{display:inline-block;width:11px;height:11px;border-radius:3px;background:var(--c);margin-right:9px}
tbody th small.under{padding-left:20px}.swatch.none{background:none;border-top:2px dashed var(--muted);height:4px;border-radius:0}
.against{font-weight:400;color:var(--muted)}
.dense th,.dense td{padding-top:6px;padding-bottom:6px}.same,.same~td{border-top-color:transparent}
.together,.option{white-space:nowrap}figcaption{margin-top:10px}
td.barcell,th.barcell{width:40%;min-width:210px}
.scalebar{position:relative;height:18px;font-size:12px}.scalebar span{position:absolute;transform:translateX(-50%)}
.scalebar span:first-child{transform:none}.scalebar span:last-child{transform:translateX(-100%)}
.bar{position:relative;height:26px;background:linear-gradient(90deg,var(--line) 1px,transparent 1px) 0 0/25% 100%;border-right:1px solid var(--line)}
.bar i{position:absolute;left:0;top:6px;height:14px;background:var(--c);opacity:.32;border-radius:0 3px 3px 0}
.bar u{position:absolute;top:2px;bottom:2px;width:3px;margin-left:-1.5px;background:var(--c);border-radius:1px}
.bar b{position:absolute;top:9px;width:8px;height:8px;margin-left:-4px;border-radius:50%;background:var(--panel);border:2px solid var(--c)}
.bar s{position:absolute;top:-3px;bottom:-3px;border-left:1.5px dashed var(--muted)}
.legend{display:flex;flex-wrap:wrap;gap:6px 20px;list-style:none;margin:0 0 12px;padding:0;font-size:14px}
.legend svg{width:30px;min-width:0;height:10px;display:inline-block;vertical-align:middle;margin-right:8px}
svg{display:block;width:100%;height:auto}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"Noto Sans",sans-serif;fill:var(--muted);font-variant-numeric:tabular-nums}
svg .strong{fill:var(--ink);font-weight:600}
svg .ink,svg .c0 .ink,svg .c1 .ink{fill:var(--c)}
svg .title{font-size:12px}
.c0{--c:var(--m0)}.c1{--c:var(--m1)}.c2{--c:var(--m2)}.c3{--c:var(--m3)}.c4{--c:var(--m4)}.c5{--c:var(--m5)}.neutral{--c:var(--ink)}
.tick{stroke:var(--line);stroke-width:1}
.axis{stroke:var(--muted)}
.zero{stroke:var(--muted);stroke-width:1.5}
.majority{stroke:var(--muted);stroke-width:1.5;stroke-dasharray:5 4}
.interval{stroke:var(--c);stroke-width:6;stroke-linecap:butt;opacity:.45}
.whisker{stroke:var(--c);stroke-width:2}
.dot{fill:var(--c);stroke:var(--panel);stroke-width:1.5}
.seed{fill:var(--c);fill-opacity:.25;stroke:var(--c);stroke-width:1.75}
.mean{stroke:var(--c);stroke-width:3}
.series{fill:none;stroke:var(--c);stroke-width:2.25;stroke-linejoin:round}
.curve{fill:none;stroke:var(--c);stroke-width:1.75;stroke-linejoin:round;opacity:.85}
.dashed{stroke-dasharray:5 3.5}
.plate{fill:var(--soft)}
.hit{fill:var(--c)}.miss{fill:var(--miss)}
svg .count{font-size:10px;fill:var(--ink)}svg .inverse{fill:var(--on)}
.full{fill:var(--c)}.half{fill:var(--c);fill-opacity:.58}.third{fill:var(--c);fill-opacity:.3}
.matrix svg{min-width:430px}
.mistakes{margin:14px 0 0;padding:0;list-style:none;font-size:14px}
.mistakes li{display:flex;justify-content:space-between;gap:16px;padding:5px 0;border-top:1px solid var(--line)}
.mistakes li span:last-child{white-space:nowrap;color:var(--muted)}
.samples{display:grid;gap:16px;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr))}
.sample{display:flex;gap:16px;padding:16px;font-size:14px}
.sample img,.sample .noimage{flex:0 0 88px;width:88px;height:88px;border-radius:6px;background:#fff;object-fit:contain;border:1px solid var(--line)}
.sample .noimage{display:grid;place-items:center;background:var(--soft);color:var(--muted);font-size:12px}
.sample>div:last-child{min-width:0;flex:1}
.sample p{margin:0 0 8px;line-height:1.4}
.sample ul{list-style:none;margin:0;padding:0}
.sample li{margin-top:2px}
.right{color:var(--m2);font-weight:700}.wrong{color:var(--miss);font-weight:700}
details{margin-top:18px}
summary{cursor:pointer;font-weight:600;font-size:15px;padding:4px 0}
details>:not(summary){margin-top:14px}
pre{background:var(--soft);border:1px solid var(--line);border-radius:8px;padding:16px 18px;margin:0;overflow-x:auto;font:13.5px/1.6 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre-wrap}
.settings td{white-space:normal;overflow-wrap:anywhere;font-size:14px;padding:6px 14px}
.settings th{font-size:14px;padding:6px 14px;font-weight:500}
.settings th:first-child{padding-left:0}.settings tbody:first-child tr:first-child>*{border-top:0}.settings tbody:first-child th{width:20%}
footer{margin-top:64px;padding-bottom:44px;color:var(--muted);font-size:13.5px}
footer div{border-top:1px solid var(--line);padding-top:18px}
@media(max-width:640px){main,header,footer{padding-left:16px;padding-right:16px}header{padding-top:26px}section{margin-top:44px}
.decision{padding:24px 18px 20px}.panel{padding:16px 14px}.facts{grid-template-columns:1fr 1fr}th,td{padding:9px 8px}table{font-size:14px}
.against{display:block;padding-left:20px}svg text{font-size:13.5px}svg .strong{font-size:12.5px}svg .count{font-size:10px}.matrix svg text{font-size:12px}.matrix svg .count{font-size:10px}small.under{display:none!important}
td.barcell,th.barcell{min-width:170px}}
@media print{:root{--bg:#fff;--panel:#fff;--ink:#111;--muted:#555;--line:#ccc;--soft:#f4f4f4;--m0:#2a66b1;--m1:#c2541b;--m2:#2f8563;--m3:#8156b3;--m4:#777d86;--m5:#a8823a;--miss:#b8323c;--on:#fff}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}body{font-size:12px}section{margin-top:32px}
.panel,.decision,tr,.sample{break-inside:avoid}h2,h3{break-after:avoid}.scroll{overflow:visible}}
)css";

}  // namespace duet::train
