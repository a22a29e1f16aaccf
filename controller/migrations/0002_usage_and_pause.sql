-- What a run used is one value that grows with what is counted.
ALTER TABLE controller_runs ADD COLUMN used TEXT NOT NULL DEFAULT '{}';
UPDATE controller_runs
   SET used = '{"cpu-micros":' || cpu_micros || ',"memory-peak-bytes":' || memory_peak_bytes || '}';
ALTER TABLE controller_runs DROP COLUMN cpu_micros;
ALTER TABLE controller_runs DROP COLUMN memory_peak_bytes;
-- Who paused a workflow.
ALTER TABLE controller_workflows ADD COLUMN paused TEXT;
