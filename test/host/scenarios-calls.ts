// Recorded scenarios of host functions: shared data, queues, properties, metrics, http_call, memory, environment.
import type { Scenario } from "./scenario.ts";

/** One header-only stream that runs these commands. */
function once(name: string, commands: string, listener = "stop"): Scenario {
  return { name, listener, steps: [{ open: "a", script: `qh=${commands}`, end: true }, { await: "a" }] };
}

export const CALL_SCENARIOS: readonly Scenario[] = [
  once(
    "shared data: absent, created by a non-zero cas, mismatch, unconditional, empty value",
    "sdget,k1;sdset,k1,one,77;sdget,k1;sdset,k1,two,77;sdset,k1,two,last;sdset,k1,three,last;sdget,k1;sdset,k1,four,0;" +
      "sdset,k1,;sdget,k1;sdset,,nameless;sdget,",
  ),
  {
    name: "two plugins with one vm_id share data and one memory; another vm_id sees nothing",
    listener: "stop",
    steps: [
      { open: "a", script: "qh=sdset,scope,here", end: true },
      { await: "a" },
      {
        open: "b",
        script: "qh=sdget,scope;prop,plugin_root_id;prop,plugin_vm_id;prop,plugin_name",
        end: true,
        on: "twin",
      },
      { await: "b" },
      { open: "c", script: "qh=sdget,scope;prop,plugin_root_id", end: true, on: "plain" },
      { await: "c" },
    ],
  },
  {
    name: "queues: unknown, empty, in order; resolved in the VM's own scope and in another's",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "qh=qdeq,q1;qenq,q1,x;qres,q1,;qreg,q1;qdeq,q1;qenq,q1,one;qenq,q1,;qdeq,q1;qdeq,q1;qdeq,q1;qres,q1,;qreg,q1",
        end: true,
      },
      { await: "a" },
      { open: "b", script: "qh=qres,q1,;qres,q1,stop;qenq,q1,from%20afar", end: true, on: "plain" },
      { await: "b" },
      { open: "c", script: "qh=qdeq,q1", end: true },
      { await: "c" },
    ],
  },
  {
    name: "the last registrant of a queue is told of a new item, on its root",
    listener: "queues",
    watch: "root:queues",
    steps: [
      { open: "a", script: "qh=qres,work,;qenq,work,item", end: true },
      { await: "a" },
      { sleepMs: 50 },
    ],
  },
  once(
    "properties: text, integers, booleans, doubles, maps in a path, absent names",
    "prop,request/path;prop,request/method;prop,request/headers/x-tag;prop,request/headers/none;prop,request/protocol;" +
      "prop,xds/cluster_name;prop,xds/route_name;prop,xds/route_metadata/filter_metadata/epp/pool;" +
      "prop,xds/route_metadata/filter_metadata/epp/weight;prop,xds/route_metadata/filter_metadata/epp/hot;" +
      "prop,xds/route_metadata/filter_metadata/epp/none;prop,xds/route_metadata/filter_metadata/none/none;" +
      "prop,metadata/filter_metadata/envoy.lb/subset_hint;prop,cluster_name;prop,route_name;prop,nothing;" +
      "prop,request/nothing;prop,request/path/deeper;prop,;prop,response/code;prop,upstream/address",
  ),
  {
    name: "set_property makes filter state that later callbacks read under its own name",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "qh=propset,epp.pick,one;prop,epp.pick;propset,epp.pick,two;prop,epp.pick;propset,a/b,x;prop,a/b|log=prop,epp.pick;propset,late,1;prop,late",
        end: true,
      },
      { await: "a" },
      {
        open: "b",
        script:
          "qh=prop,epp.pick;eff,root;propset,x,1;prop,x;prop,plugin_root_id;get,0,:path;pairs,0;buf,0,0,9;bufstat,6;bufstat,7;bufstat,4;bufstat,5;bufstat,8;bufstat,9;setbuf,0,0,0,x;setbuf,6,0,0,x",
        end: true,
      },
      { await: "b" },
    ],
  },
  once(
    "metrics: ids by kind, counters add on record, gauges set, wrong kinds and amounts are refused",
    "mdef,0,probe_c;mdef,1,probe_g;mdef,2,probe_h;mdef,3,probe_x;minc,probe_c,2;minc,probe_c,0;minc,probe_c,-1;mrec,probe_c,5;mget,probe_c;" +
      "minc,probe_g,7;minc,probe_g,-3;mget,probe_g;mrec,probe_g,11;mget,probe_g;minc,probe_g,0;mrec,probe_h,3;minc,probe_h,1;mget,probe_h;" +
      "minc,4000,1;mrec,4000,1;mget,4001;mrec,4003,1;minc,4003,1;mdef,0,probe_c;mget,probe_c",
    "twin",
  ),
  once(
    "memory: pointers outside are refused; a malloc of 0 too; empty values never call malloc",
    "mallocs,reset;oobkey,0;oobout,0,:path;malloc,zero;get,0,:path;malloc,zero;pairs,0,none;malloc,zero;prop,request/path;mallocs;" +
      "sdset,void,;sdget,void;rep,0,x-t-void,;get,0,x-t-void;get,0,x-t-absent;pairs,1;buf,0,0,9;prop,nothing;mallocs;get,0,:path;mallocs",
  ),
  {
    name: "memory that grows inside malloc does not lose the value",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "qh=ret,1;malloc,grow;get,0,:path;malloc,grow;prop,request/method;malloc,grow;pairs,0,x-t-|qb=ret,1|qb$=malloc,grow;buf,0,0,99;ret,0",
        headers: { "x-t-one": "1" },
      },
      { data: "a", text: "body" },
      { end: "a" },
      { await: "a" },
    ],
  },
  once(
    "clock, log level, status, unknown foreign function, log levels",
    "time;loglevel;status;foreign,none,x;badlog,6;badlog,5",
  ),
  {
    name: "environment variables reach the VM through WASI",
    listener: "env",
    steps: [{ open: "a", script: "qh=env", end: true }, { await: "a" }],
  },
  {
    name: "http_call refusals: unknown cluster, missing :path, cluster without hosts",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: "qh=call,nowhere,/x,,100;call,up,none,,100;call,empty,/x,,100;call,up,/x,,-1",
        end: true,
      },
      { await: "a" },
    ],
  },
  {
    name: "an http_call answers on the root; the paused stream is reached by set_effective_context",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "qh=ret,1|qb=ret,1|qb$=call,up,/ask,question,1000,x-t-q=1;ret,1|" +
          "cr=get,0,:path;get,6,:status;get,6,x-t-reply;buf,4,0,99;size,6;get,7,x;eff,self;get,0,:path;get,6,:status;setbuf,0,0,4,spliced;rem,0,content-length;rep,0,x-t-pick,call;cont,0;get,0,:path",
      },
      { data: "a", text: "body" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "an http_call to a host that refuses is a 503, a silent one a 504",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: "qh=call,dead,/x,,1000;ret,1|cr=get,6,:status;buf,4,0,98;status;eff,self;cont,0",
        end: true,
      },
      { await: "a" },
      {
        open: "b",
        script: "qh=call,up,/silent,,60;ret,1|cr=get,6,:status;buf,4,0,99;status;eff,self;cont,0",
        end: true,
      },
      { await: "b" },
    ],
  },
  {
    name: "a reply that comes after its stream is gone: the dead context is refused, later calls act on the root",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: "qh=call,up,/late,,1000;ret,1|cr=eff,self;get,0,:path;rep,0,x,1;cont,0;buf,4,0,99",
        end: true,
      },
      { abort: "a" },
      { sleepMs: 300 },
    ],
  },
];
