// Words that the simulated tokenizer knows whole, and from which workloads and answers are written.

const COMMON = `the of and to in a is that for it as was with be by on not he his but at are this have
from or had an they which one you were all her she there would their we him been has when
who will no more if out so up said what its about than into them can only other time new
some could these two may first then do any like my now over such our man me even most made
after also did many off before must well back through years where much your way down
should because long each just state those people too mister how little good world make
very year still see own work men day get here between both under never same another know
while last might us great old against go came right used take three himself few house use
during without again place around however small found part went say thought number course
water less public put almost hand enough far took head yet government system set better
night end why called told eyes find going look asked later knew point next program city
business give group toward young let room president side social given present several
order national possible rather second face per among form often things important large
early big case power high change need point open children problem certain already turn
within school money life during since possible being themselves kind family area help line
play left began keep person name story interest fact sense development service whole half
best feel nothing really something example once matter question`;

const TECHNICAL = `server client request response token prompt model batch cache prefix block replica route
router proxy gateway queue latency throughput memory kernel thread worker process schedule
scheduler index table key value hash bucket shard node cluster region zone network packet
socket stream buffer header body payload schema field type string integer float array
object function method class module package import export interface library version
release build deploy container image volume service endpoint health metric counter gauge
histogram label alert dashboard trace span log event message topic producer consumer
partition offset replay snapshot commit branch merge review test unit integration
benchmark profile compiler runtime garbage heap stack frame pointer register cursor query
row column join filter sort limit database transaction lock mutex semaphore atomic barrier
deadlock timeout retry backoff failure error exception warning debug info fatal panic
crash restart recover rollback migrate encrypt decrypt certificate secret credential
identity policy role permission audit tenant quota budget price cost user account session
cookie login logout register invite team project organization customer support ticket
agent tool call argument result output input context window document paragraph section
chapter summary report analysis contract clause party agreement liability warranty
termination notice payment invoice delivery schedule appendix patient treatment diagnosis
symptom dose trial study protocol outcome measure sample variance average median percent
revenue margin profit loss growth forecast quarter annual market share risk asset debt
equity capital interest rate design draft sketch layout color font margin padding border
button form menu dialog page screen view widget theme sensor motor signal voltage current
circuit board chip wafer thermal cooling rack power supply battery charge temperature
pressure volume density velocity force energy mass gravity orbit planet star galaxy
telescope lens`;

const VERBS = `compare describe explain list show write rewrite translate summarize extract classify rank
estimate check verify correct improve reduce increase remove add replace update create
delete read send receive open close start stop pause resume connect disconnect load store
fetch push pull parse render format encode decode compress measure count average allocate
free evict preempt admit reject accept drop forward balance weigh score pick choose assign
reserve publish subscribe notify wait sleep wake poll scan search match find select insert
append prepend split trim pad align round floor clamp scale shift rotate mirror sample
shuffle order group reduce expand collapse consider assume suppose imply require allow
prevent avoid ensure guarantee promise expect predict observe conclude suggest recommend
propose agree differ depend belong contain include exclude cover follow lead return begin
finish`;

const unique = new Set([...COMMON.split(/\s+/), ...TECHNICAL.split(/\s+/), ...VERBS.split(/\s+/)]);

/** All known words in lower case, each once, in a fixed order: the order is part of the vocabulary. */
export const WORDS: readonly string[] = [...unique].filter((word) => word.length > 0);
