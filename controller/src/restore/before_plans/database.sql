-- Made by make.sh with the programs of commit 244c59b.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE access_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO access_migrations VALUES(1,'first','2026-11-30 05:24:18',1,X'34b5abadfb41f56637f9b4226b6375d482638f98be6013a1834cb49334ad178d6c7ba066c776b70f03d39b517d70e215',7908517);
INSERT INTO access_migrations VALUES(2,'accounts','2026-11-30 05:24:18',1,X'd6d6df633bee315bb12be17c8d31b94d6628fcf549657f707224c22a5e09da2e13839c564d08e6ca74cfb058f348d94e',1437572);
CREATE TABLE access_users (
    name TEXT NOT NULL PRIMARY KEY,
    admin BOOLEAN NOT NULL
, uid BIGINT, gid BIGINT, user_groups TEXT, comment TEXT);
INSERT INTO access_users VALUES('admin',1,NULL,NULL,NULL,NULL);
INSERT INTO access_users VALUES('ann',0,1001,1001,'[]',NULL);
CREATE TABLE access_tokens (
    hash BYTEA NOT NULL PRIMARY KEY,
    user_name TEXT NOT NULL REFERENCES access_users (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    created BIGINT NOT NULL,
    UNIQUE (user_name, name)
);
INSERT INTO access_tokens VALUES(X'3ff3c6015dcda4ee1a31b94a0486e18e4116f941f8cc53776579af21d8aac440','admin','first-start',1796016258920383);
INSERT INTO access_tokens VALUES(X'dcf4743fa5f0e993adb308b54baa3b245b24a5476f2eb3bf9f898cf81ea0fed9','ann','sim',1796016259256604);
CREATE TABLE access_audit (
    number BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    principal TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL,
    hash BYTEA NOT NULL
);
INSERT INTO access_audit VALUES(1,1796016258919014,'server','create-admin','admin','done',X'8ddd3bdf6e5ffd404841b70b97242d360cb9ff2d02ff7a02e2ced29f9360293c');
INSERT INTO access_audit VALUES(2,1796016258969218,'admin','POST','/v1/images','202',X'9a811e9c76e80303235434dfc6e2b1e419478c2138001664bde6a4e1d68f52f6');
INSERT INTO access_audit VALUES(3,1796016259244349,'admin','POST','/v1/apply','200',X'e4e481ec729c584ad498347b3cc08340bb1dc7886e59649e964301db6412a7e4');
INSERT INTO access_audit VALUES(4,1796016259254822,'admin','POST','/v1/users','201',X'681551a6c2bffaa3ede2dd13576bd672df054bc44855bf6146d6629cc2122f63');
INSERT INTO access_audit VALUES(5,1796016259257562,'admin','POST','/v1/tokens','201',X'b6249a7fabf881a226ea58caa39f4792d3801647f9c24d4bd9d90370b9faf0b8');
INSERT INTO access_audit VALUES(6,1796016259544220,'ann','POST','/v1/workflows','201',X'3979c32cd5ded6bcdd4418bdea38b9b513806621080835b95d94699f777f7f0e');
INSERT INTO access_audit VALUES(7,1796016263952425,'admin','POST','/v1/workflows','201',X'20e7480ed42921c2887cd8be2e3cf69ff9813808d7200eb5e5914a808a9d91e3');
INSERT INTO access_audit VALUES(8,1796016264036812,'admin','POST','/v1/workflows','201',X'24787f578b28802e2070e415106e23a36686e82e84ecf06e6445569c83a1283f');
INSERT INTO access_audit VALUES(9,1796016264067850,'admin','POST','/v1/workflows','201',X'3d01bfa39df2db1c017c91dbce2ace1dfc5f73810762094676417fecdfdcd433');
INSERT INTO access_audit VALUES(10,1796016264110274,'admin','POST','/v1/workflows','201',X'3204b6d9d276949c7acf80add95c452cfca3dfb4f2d0fd7a67b81e5f458011ca');
INSERT INTO access_audit VALUES(11,1796016264145719,'admin','POST','/v1/workflows','201',X'42ccaddb60a6d514a64392aee7771185019e5cc9f50977dd0bab4f3fdb269755');
INSERT INTO access_audit VALUES(12,1796016264170382,'admin','POST','/v1/workflows','201',X'a0a89322087f737dc17bdc665864f20fc306c8644cbe183357642cb6f2367091');
INSERT INTO access_audit VALUES(13,1796016264188224,'admin','POST','/v1/workflows','201',X'71dec70afe0c204cca0c9609c14e37fa7d7c59addd2dda0b962adde4d9d8a702');
INSERT INTO access_audit VALUES(14,1796016264208800,'admin','POST','/v1/workflows','201',X'28fe5b47c937668587009e39ae7f8070cb9fa38bc0c12119456e50f238233c8d');
INSERT INTO access_audit VALUES(15,1796016264226531,'admin','POST','/v1/workflows','201',X'ce8c16cff24a2e5874663bd2a3efcb7f368840496190becea021211dcd7497a7');
INSERT INTO access_audit VALUES(16,1796016268250678,'admin','POST','/v1/workflows/paused/pause','200',X'cdb5efa5fa626f297daff67243c5bf431dcfa970f7c3c83a6d5dab8647af0175');
INSERT INTO access_audit VALUES(17,1796016268273057,'admin','POST','/v1/workflows/stopped/stop','200',X'c54df74264055a145760837c5d44b01d8b8f252798e972b5711775fc842837ab');
INSERT INTO access_audit VALUES(18,1796016272297079,'admin','POST','/v1/nodes/n00001/drain','204',X'21ebea77dd786ddd83a2bbd8850f681d76bc5f486de3dbd43d0f9583db0dfbd3');
INSERT INTO access_audit VALUES(19,1796016272300449,'admin','POST','/v1/nodes/n00002/drain','204',X'72d2e3d3162e83825457aed529f658a8ef2cd3a4d6cc4f6b27884a22ac5c3004');
INSERT INTO access_audit VALUES(20,1796016272303144,'admin','POST','/v1/nodes/n00003/drain','204',X'c9912a20c78fe9bf7c818ad7ab5ebbd88d77f5b782f4eb6019faa3e91a179940');
INSERT INTO access_audit VALUES(21,1796016272337661,'admin','POST','/v1/workflows','201',X'5e54cd8f09c953f25baf20d6cd259768a07ddbabdd6ea1d77db295daa67c9b95');
INSERT INTO access_audit VALUES(22,1796016273362037,'admin','DELETE','/v1/nodes/n00001/drain','204',X'3c3a1065aaca35708ef66f541bf5495a3e3aa9f25725a917810913cf6f274fe5');
INSERT INTO access_audit VALUES(23,1796016273364365,'admin','DELETE','/v1/nodes/n00002/drain','204',X'3175684c2445df51eb8cb8d60f109f749c19be2408de00a87e9c73b5101ff4a3');
INSERT INTO access_audit VALUES(24,1796016273366431,'admin','DELETE','/v1/nodes/n00003/drain','204',X'718c0c7e76c683b22f3d8cbdabc6b5794b90a7c8d7550c8c288c0114181e98e8');
INSERT INTO access_audit VALUES(25,1796016273390902,'admin','POST','/v1/workflows','201',X'b3c89ba9d87dc12d9c6d05faf104b11edfda6a52e725b020ae2699e1cf2442b7');
CREATE TABLE fleet_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO fleet_migrations VALUES(1,'first','2026-11-30 05:24:18',1,X'b0bf4384de03e332e3d54b4640e5fd5e9717402f83f33642c5a24de6143eecf0607bc27865ecd48672d5120ba8e2476c',6946513);
INSERT INTO fleet_migrations VALUES(2,'topologies','2026-11-30 05:24:18',1,X'b45dfa5c0505ad46af577694732a3cf47abcd0f98a32aeef02f988b3e6a7dac635d0e7e55d8411a12a461aaefe347ccc',954681);
CREATE TABLE fleet_nodes (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    life TEXT NOT NULL,
    arming TEXT NOT NULL,
    history BIGINT NOT NULL
);
INSERT INTO fleet_nodes VALUES('0987c181-de07-4555-b7d9-9114cc7c574b','n00002','{"phase":"ready","percent":null,"reason":null,"since":1796016259308235,"last-seen":1796016272984385,"overdue":false,"address":"10.88.128.2","image":"tiny@1","agent-version":"simulated","boot-ms":44,"boot-started":null,"files":1,"presence":{"is":"connected"},"drain":null,"refuses":null,"agent":{"boot-id":"n00002-1796016259273739","instance":"000661779f25146c"},"inventory-known":true}','{"state":{"state":"connected","misused":false},"spent":"sha256:78b4c5eb1cc80a28d42132a408df27e731fb19645baa8479b8ee50f700d9a084"}',8);
INSERT INTO fleet_nodes VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a','n00003','{"phase":"ready","percent":null,"reason":null,"since":1796016259293440,"last-seen":1796016261967148,"overdue":false,"address":"10.88.128.3","image":"tiny@1","agent-version":"simulated","boot-ms":27,"boot-started":null,"files":1,"presence":{"is":"connected"},"drain":null,"refuses":null,"agent":{"boot-id":"n00003-1796016259275227","instance":"000661779f251af5"},"inventory-known":true}','{"state":{"state":"connected","misused":false},"spent":"sha256:2525ad646e19a758cbfeac04e2d32f0ec749dd4bb27bcb91cbdf79596e7c8c43"}',8);
INSERT INTO fleet_nodes VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','{"phase":"ready","percent":null,"reason":null,"since":1796016259292029,"last-seen":1796016273131339,"overdue":false,"address":"10.88.128.1","image":"tiny@1","agent-version":"simulated","boot-ms":26,"boot-started":null,"files":1,"presence":{"is":"connected"},"drain":null,"refuses":null,"agent":{"boot-id":"n00001-1796016259276007","instance":"000661779f251d12"},"inventory-known":true}','{"state":{"state":"connected","misused":false},"spent":"sha256:286c640558ebd01cd311b220c0785cf24e1eb078e38b2ece317c544f311e619c"}',8);
CREATE TABLE fleet_history (
    node TEXT NOT NULL REFERENCES fleet_nodes (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    name TEXT NOT NULL,
    phase TEXT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (node, number)
);
INSERT INTO fleet_history VALUES('0987c181-de07-4555-b7d9-9114cc7c574b',1,1796016259263394,'n00002','firmware','info','10.88.128.2 fetched the node''s initrd');
INSERT INTO fleet_history VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a',1,1796016259265656,'n00003','firmware','info','10.88.128.3 fetched the node''s initrd');
INSERT INTO fleet_history VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2',1,1796016259265975,'n00001','firmware','info','10.88.128.1 fetched the node''s initrd');
INSERT INTO fleet_history VALUES('0987c181-de07-4555-b7d9-9114cc7c574b',2,1796016259270113,'n00002','stage1','info','stage 1 got its certificate at 10.88.128.2');
INSERT INTO fleet_history VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a',2,1796016259272142,'n00003','stage1','info','stage 1 got its certificate at 10.88.128.3');
INSERT INTO fleet_history VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2',2,1796016259272545,'n00001','stage1','info','stage 1 got its certificate at 10.88.128.1');
INSERT INTO fleet_history VALUES('0987c181-de07-4555-b7d9-9114cc7c574b',3,1796016259278831,'n00002','enrolled','info','agent simulated connected');
INSERT INTO fleet_history VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2',3,1796016259280646,'n00001','enrolled','info','agent simulated connected');
INSERT INTO fleet_history VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a',3,1796016259282612,'n00003','enrolled','info','agent simulated connected');
INSERT INTO fleet_history VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2',4,1796016259292029,'n00001','ready','info','sent its first inventory');
INSERT INTO fleet_history VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2',5,1796016259292029,'n00001','ready','info','ready 0.0 s after its first request');
INSERT INTO fleet_history VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a',4,1796016259293440,'n00003','ready','info','sent its first inventory');
INSERT INTO fleet_history VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a',5,1796016259293440,'n00003','ready','info','ready 0.0 s after its first request');
INSERT INTO fleet_history VALUES('0987c181-de07-4555-b7d9-9114cc7c574b',4,1796016259308235,'n00002','ready','info','sent its first inventory');
INSERT INTO fleet_history VALUES('0987c181-de07-4555-b7d9-9114cc7c574b',5,1796016259308235,'n00002','ready','info','ready 0.0 s after its first request');
INSERT INTO fleet_history VALUES('0987c181-de07-4555-b7d9-9114cc7c574b',6,1796016259396534,'n00002','ready','info','applied runtime overlays 77ce6345d368: 1 files written, 0 removed');
INSERT INTO fleet_history VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a',6,1796016259397620,'n00003','ready','info','applied runtime overlays 77ce6345d368: 1 files written, 0 removed');
INSERT INTO fleet_history VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2',6,1796016259398090,'n00001','ready','info','applied runtime overlays 77ce6345d368: 1 files written, 0 removed');
INSERT INTO fleet_history VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2',7,1796016272295109,'n00001','ready','info','drained by admin: what comes next must not arrive');
INSERT INTO fleet_history VALUES('0987c181-de07-4555-b7d9-9114cc7c574b',7,1796016272298745,'n00002','ready','info','drained by admin: what comes next must not arrive');
INSERT INTO fleet_history VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a',7,1796016272301883,'n00003','ready','info','drained by admin: what comes next must not arrive');
INSERT INTO fleet_history VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2',8,1796016273360106,'n00001','ready','info','undrained by admin');
INSERT INTO fleet_history VALUES('0987c181-de07-4555-b7d9-9114cc7c574b',8,1796016273363323,'n00002','ready','info','undrained by admin');
INSERT INTO fleet_history VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a',8,1796016273365539,'n00003','ready','info','undrained by admin');
CREATE TABLE fleet_inventories (
    node TEXT NOT NULL REFERENCES fleet_nodes (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    digest TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (node, number)
);
INSERT INTO fleet_inventories VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2',1,1796016259284409,'sha256:123698cc3ab125c674141956533f7534e62fd02f7768871910969d1a8f4271d6','{"system":{"vendor":null,"product":null,"version":null,"serial":null,"uuid":null,"sku":null,"family":null,"asset-tag":null,"chassis":null,"chassis-serial":null,"board":{"vendor":null,"product":null,"version":null,"serial":null}},"firmware":{"vendor":null,"version":null,"date":null,"boot-mode":null,"secure-boot":null,"tpm":null},"os":{"name":null,"kernel":null,"architecture":null,"command-line":null},"topology":{"cpu-model":null,"cpu-vendor":null,"cpu-family":null,"cpu-model-number":null,"cpu-stepping":null,"microcode":null,"cpu-flags":[],"max-mhz":null,"packages":[{"index":0,"pus":[0,1,2,3]}],"dies":[],"numa-nodes":[{"index":0,"memory-bytes":1073741824,"pus":[0,1,2,3],"kind":null,"tier":null,"bandwidth-mibs":null,"latency-ns":null,"pages":[]}],"distances":[],"caches":[],"cores":[{"index":0,"package":0,"numa-node":0,"kind":null,"pus":[0]},{"index":1,"package":0,"numa-node":0,"kind":null,"pus":[1]},{"index":2,"package":0,"numa-node":0,"kind":null,"pus":[2]},{"index":3,"package":0,"numa-node":0,"kind":null,"pus":[3]}],"cpu-kinds":[],"pus":4,"offline-pus":[]},"memory-bytes":1073741824,"memory-modules":[],"bmc":null,"pci":[],"nics":[],"disks":[],"gpus":[],"infiniband":[],"devices":[],"faults":[],"gaps":[]}');
INSERT INTO fleet_inventories VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a',1,1796016259284021,'sha256:123698cc3ab125c674141956533f7534e62fd02f7768871910969d1a8f4271d6','{"system":{"vendor":null,"product":null,"version":null,"serial":null,"uuid":null,"sku":null,"family":null,"asset-tag":null,"chassis":null,"chassis-serial":null,"board":{"vendor":null,"product":null,"version":null,"serial":null}},"firmware":{"vendor":null,"version":null,"date":null,"boot-mode":null,"secure-boot":null,"tpm":null},"os":{"name":null,"kernel":null,"architecture":null,"command-line":null},"topology":{"cpu-model":null,"cpu-vendor":null,"cpu-family":null,"cpu-model-number":null,"cpu-stepping":null,"microcode":null,"cpu-flags":[],"max-mhz":null,"packages":[{"index":0,"pus":[0,1,2,3]}],"dies":[],"numa-nodes":[{"index":0,"memory-bytes":1073741824,"pus":[0,1,2,3],"kind":null,"tier":null,"bandwidth-mibs":null,"latency-ns":null,"pages":[]}],"distances":[],"caches":[],"cores":[{"index":0,"package":0,"numa-node":0,"kind":null,"pus":[0]},{"index":1,"package":0,"numa-node":0,"kind":null,"pus":[1]},{"index":2,"package":0,"numa-node":0,"kind":null,"pus":[2]},{"index":3,"package":0,"numa-node":0,"kind":null,"pus":[3]}],"cpu-kinds":[],"pus":4,"offline-pus":[]},"memory-bytes":1073741824,"memory-modules":[],"bmc":null,"pci":[],"nics":[],"disks":[],"gpus":[],"infiniband":[],"devices":[],"faults":[],"gaps":[]}');
INSERT INTO fleet_inventories VALUES('0987c181-de07-4555-b7d9-9114cc7c574b',1,1796016259282945,'sha256:123698cc3ab125c674141956533f7534e62fd02f7768871910969d1a8f4271d6','{"system":{"vendor":null,"product":null,"version":null,"serial":null,"uuid":null,"sku":null,"family":null,"asset-tag":null,"chassis":null,"chassis-serial":null,"board":{"vendor":null,"product":null,"version":null,"serial":null}},"firmware":{"vendor":null,"version":null,"date":null,"boot-mode":null,"secure-boot":null,"tpm":null},"os":{"name":null,"kernel":null,"architecture":null,"command-line":null},"topology":{"cpu-model":null,"cpu-vendor":null,"cpu-family":null,"cpu-model-number":null,"cpu-stepping":null,"microcode":null,"cpu-flags":[],"max-mhz":null,"packages":[{"index":0,"pus":[0,1,2,3]}],"dies":[],"numa-nodes":[{"index":0,"memory-bytes":1073741824,"pus":[0,1,2,3],"kind":null,"tier":null,"bandwidth-mibs":null,"latency-ns":null,"pages":[]}],"distances":[],"caches":[],"cores":[{"index":0,"package":0,"numa-node":0,"kind":null,"pus":[0]},{"index":1,"package":0,"numa-node":0,"kind":null,"pus":[1]},{"index":2,"package":0,"numa-node":0,"kind":null,"pus":[2]},{"index":3,"package":0,"numa-node":0,"kind":null,"pus":[3]}],"cpu-kinds":[],"pus":4,"offline-pus":[]},"memory-bytes":1073741824,"memory-modules":[],"bmc":null,"pci":[],"nics":[],"disks":[],"gpus":[],"infiniband":[],"devices":[],"faults":[],"gaps":[]}');
CREATE TABLE fleet_topologies (
    node TEXT NOT NULL PRIMARY KEY REFERENCES fleet_nodes (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    size BIGINT NOT NULL,
    document BYTEA NOT NULL
);
CREATE TABLE provisioner_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO provisioner_migrations VALUES(1,'first','2026-11-30 05:24:18',1,X'9e4ffda114cdfe176baf39b77cc7fb40fc3dcec6d2728469c582857e76434e057fd24f77bb53b46a19c239867a34a367',1689604);
CREATE TABLE provisioner_nodes (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    version BIGINT NOT NULL
);
INSERT INTO provisioner_nodes VALUES('d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','{"profiles":["base"],"interfaces":{"eth0":{"mac":"52:54:01:00:00:01","address":"10.88.128.1/16"}}}',1);
INSERT INTO provisioner_nodes VALUES('0987c181-de07-4555-b7d9-9114cc7c574b','n00002','{"profiles":["base"],"interfaces":{"eth0":{"mac":"52:54:01:00:00:02","address":"10.88.128.2/16"}}}',1);
INSERT INTO provisioner_nodes VALUES('3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a','n00003','{"profiles":["base"],"interfaces":{"eth0":{"mac":"52:54:01:00:00:03","address":"10.88.128.3/16"}}}',1);
CREATE TABLE provisioner_profiles (
    name TEXT NOT NULL PRIMARY KEY,
    spec TEXT NOT NULL,
    version BIGINT NOT NULL
);
INSERT INTO provisioner_profiles VALUES('base','{"image":"tiny"}',1);
CREATE TABLE provisioner_image_names (
    name TEXT NOT NULL PRIMARY KEY,
    last_version BIGINT NOT NULL
);
INSERT INTO provisioner_image_names VALUES('tiny',1);
CREATE TABLE provisioner_image_versions (
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    substrate TEXT NOT NULL,
    layers TEXT NOT NULL,
    PRIMARY KEY (name, version)
);
INSERT INTO provisioner_image_versions VALUES('tiny',1,'{"version":1,"source":"oci:/work/main/target/sim/work/layout:1","manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","architecture":"amd64","imported":1796016258989151,"root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"kernels":[{"release":"6.1.0-test","kernel":{"format":"vmlinuz","digest":"sha256:100d125cca4dd28597fbbbac418ec0091d3f121443803dc19156c766c432161e","size":19},"stage1":{"format":"initramfs","digest":"sha256:e4a323ba85d3e9a24c53855f9638ac60e8741d0821f99233893793822c02d669","size":288}}],"warnings":[]}','sha256:6385121c6250acd029b3d5d4fdd7a6ccf40ffc4f3a867f1f0cbd3bf33aac9885','[{"digest":"sha256:af66ed504d11b217ac8369d68bac88d787ec467932ba673fc5668699b1739886","size":2560,"media-type":"application/vnd.oci.image.layer.v1.tar"}]');
CREATE TABLE provisioner_operations (
    id BIGINT NOT NULL PRIMARY KEY,
    request TEXT NOT NULL,
    body TEXT NOT NULL,
    ended BOOLEAN NOT NULL
);
INSERT INTO provisioner_operations VALUES(1,'{"source":"oci:/work/main/target/sim/work/layout:1","name":"tiny","insecure":false}','{"id":1,"title":"import oci:/work/main/target/sim/work/layout:1 as tiny","created":1796016258967330,"state":{"state":"done","result":"tiny@1"}}',1);
CREATE TABLE controller_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO controller_migrations VALUES(1,'first','2026-11-30 05:24:18',1,X'c6208ff2b91e7abbcc23a780ef1fd10989a4f1bdcf2284c348babd96e909fe5d5c850b36f1efb43462d3891c28862029',5881024);
INSERT INTO controller_migrations VALUES(2,'usage and pause','2026-11-30 05:24:18',1,X'0dac87bfc76176a85b3e1f948a226b8bb18823bb94f3e9c2c50a63dabadfe983b1d7098a003b5192ebd1bd0dd641fa60',4448090);
INSERT INTO controller_migrations VALUES(3,'names','2026-11-30 05:24:18',1,X'eb67c5ff943f296d7cfe8a87bf83099c52f80c4f338fb62ca62575b51fa1b78cbd5cb2aabc8259aead1ecc0298759a01',4125167);
CREATE TABLE controller_workflows (
    id        TEXT PRIMARY KEY,
    place     BIGINT NOT NULL UNIQUE,
    name      TEXT NOT NULL,
    owner     TEXT NOT NULL,
    document  TEXT NOT NULL,
    submitted BIGINT NOT NULL,
    started   BIGINT,
    ended     BIGINT,
    state     TEXT NOT NULL,
    reason    TEXT,
    stop      TEXT,
    homes     TEXT NOT NULL,
    view      TEXT
, paused TEXT, owner_name TEXT GENERATED ALWAYS AS (json_extract(owner, '$.name')) VIRTUAL);
INSERT INTO controller_workflows VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',1,'sim-00000','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs:\n  work: {image: ''docker://127.0.0.1:5000/tiny:1'', command: [work, ''100'', ''2000''], task-array: {start: 1, end: 14}, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, policy: {retry: {attempts: 30}}}\n  flaky: {image: ''docker://127.0.0.1:5000/tiny:1'', command: [flaky, ''10'', ''100'', ''2000''], task-array: {start: 1, end: 4}, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, policy: {retry: {attempts: 30}}}\n  last: {image: ''docker://127.0.0.1:5000/tiny:1'', command: [work, ''100'', ''2000''], task-array: {start: 1, end: 2}, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, policy: {retry: {attempts: 30}}, requires: [work]}\n','\n',char(10)),1796016259539627,1796016259539678,1796016263379553,'finished',NULL,NULL,'[]','{"summary":{"id":"01a22ae9-41d3-7731-8a34-52075c16383e","name":"sim-00000","user":"ann","state":"finished","stages-finished":4,"stages":4,"submitted":1796016259539627,"started":1796016259539678,"ended":1796016263379553,"reason":null},"stages":[{"index":0,"kind":"image","name":"docker://127.0.0.1:5000/tiny:1","state":"finished","after":[],"reason":null,"started":1796016259539678,"ended":1796016259706263,"nodes":[],"tasks":{"pending":0,"started":0,"finished":1,"failed":0,"canceled":0}},{"index":1,"kind":"job","name":"work","state":"finished","after":[0],"reason":null,"started":1796016259706377,"ended":1796016261477809,"nodes":["n00001","n00002","n00003"],"tasks":{"pending":0,"started":0,"finished":14,"failed":0,"canceled":0}},{"index":2,"kind":"job","name":"flaky","state":"finished","after":[0],"reason":null,"started":1796016260216690,"ended":1796016261100150,"nodes":["n00001","n00002","n00003"],"tasks":{"pending":0,"started":0,"finished":4,"failed":0,"canceled":0}},{"index":3,"kind":"job","name":"last","state":"finished","after":[0,1],"reason":null,"started":1796016261477982,"ended":1796016263379553,"nodes":["n00002"],"tasks":{"pending":0,"started":0,"finished":2,"failed":0,"canceled":0}}],"files":[]}',NULL);
INSERT INTO controller_workflows VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',2,'data','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v4\nfiles: {words: ''to be or not to be''}\nvolumes:\n  in: {ingress: [{source: file://words, destination: file://words}]}\n  out: {egress: [{source: file://count, destination: local:///tmp/count}]}\n  apart: {use: ephemeral}\njobs:\n  count: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, mounts: {/in: in, /out: out}, script: ''#!/bin/sh'', command: []}\n  holds: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [hang], mounts: {/out: out}, requires: [count]}\n  after: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [x], requires: [holds], mounts: {/apart: apart}}\n','\n',char(10)),1796016263948312,1796016263948362,NULL,'started',NULL,NULL,'[{"node":"d8d043ec-8054-416b-af10-cfc147dcbeb2","name":"n00001","boot":"n00001-1796016259276007"},{"node":"d8d043ec-8054-416b-af10-cfc147dcbeb2","name":"n00001","boot":"n00001-1796016259276007"}]',NULL,NULL);
INSERT INTO controller_workflows VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',3,'array','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs:\n  frames: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [/bin/sleep, ''${FB_TASK_ID}0''], task-array: {start: 1, end: 1000000, concurrency: 2}}\n  sum: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [x], requires: [frames]}\n','\n',char(10)),1796016264029055,1796016264029089,NULL,'started',NULL,NULL,'[]',NULL,NULL);
INSERT INTO controller_workflows VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',4,'again','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs: {fails: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [exit, ''3''], policy: {retry: {attempts: 20}}}}\n','\n',char(10)),1796016264062408,1796016264062441,NULL,'started',NULL,NULL,'[]',NULL,NULL);
INSERT INTO controller_workflows VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',5,'failed','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs: {fails: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [exit, ''4'']}, never: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [x], requires: [fails]}}\n','\n',char(10)),1796016264107586,1796016264107653,1796016264128709,'failed','job fails: exited with status 4',NULL,'[]','{"summary":{"id":"01a22ae9-53ab-77e3-8cb0-978e1ba885b4","name":"failed","user":"ann","state":"failed","stages-finished":1,"stages":3,"submitted":1796016264107586,"started":1796016264107653,"ended":1796016264128709,"reason":"job fails: exited with status 4"},"stages":[{"index":0,"kind":"image","name":"docker://127.0.0.1:5000/tiny:1","state":"finished","after":[],"reason":null,"started":1796016264107653,"ended":1796016264112486,"nodes":[],"tasks":{"pending":0,"started":0,"finished":1,"failed":0,"canceled":0}},{"index":1,"kind":"job","name":"fails","state":"failed","after":[0],"reason":"exited with status 4","started":1796016264112552,"ended":1796016264128709,"nodes":["n00001"],"tasks":{"pending":0,"started":0,"finished":0,"failed":1,"canceled":0}},{"index":2,"kind":"job","name":"never","state":"canceled","after":[0,1],"reason":"job fails failed","started":null,"ended":1796016264128709,"nodes":[],"tasks":{"pending":0,"started":0,"finished":0,"failed":0,"canceled":1}}],"files":[]}',NULL);
INSERT INTO controller_workflows VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',6,'hello','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs: {hello: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [x]}}\n','\n',char(10)),1796016264135574,1796016264135595,1796016264167124,'finished',NULL,NULL,'[]','{"summary":{"id":"01a22ae9-53c6-7d6a-9729-96a70b306ba9","name":"hello","user":"ann","state":"finished","stages-finished":2,"stages":2,"submitted":1796016264135574,"started":1796016264135595,"ended":1796016264167124,"reason":null},"stages":[{"index":0,"kind":"image","name":"docker://127.0.0.1:5000/tiny:1","state":"finished","after":[],"reason":null,"started":1796016264135595,"ended":1796016264146940,"nodes":[],"tasks":{"pending":0,"started":0,"finished":1,"failed":0,"canceled":0}},{"index":1,"kind":"job","name":"hello","state":"finished","after":[0],"reason":null,"started":1796016264146999,"ended":1796016264167124,"nodes":["n00001"],"tasks":{"pending":0,"started":0,"finished":1,"failed":0,"canceled":0}}],"files":[]}',NULL);
INSERT INTO controller_workflows VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',7,'ruled','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs: {ruled: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [hang]}, next: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [x], requires: [ruled]}}\n','\n',char(10)),1796016264163818,1796016264163843,NULL,'started',NULL,NULL,'[]',NULL,NULL);
INSERT INTO controller_workflows VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',8,'strange','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs: {strange: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [hang]}, next: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [x], requires: [strange]}}\n','\n',char(10)),1796016264186183,1796016264186207,NULL,'started',NULL,NULL,'[]',NULL,NULL);
INSERT INTO controller_workflows VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',9,'stopped','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs: {stopped: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [hang]}}\n','\n',char(10)),1796016264205538,1796016264205567,1796016268273574,'canceled','stopped by admin','stopped by admin','[]','{"summary":{"id":"01a22ae9-540c-7e3e-9708-93073af9778e","name":"stopped","user":"ann","state":"canceled","stages-finished":1,"stages":2,"submitted":1796016264205538,"started":1796016264205567,"ended":1796016268273574,"reason":"stopped by admin"},"stages":[{"index":0,"kind":"image","name":"docker://127.0.0.1:5000/tiny:1","state":"finished","after":[],"reason":null,"started":1796016264205567,"ended":1796016264210031,"nodes":[],"tasks":{"pending":0,"started":0,"finished":1,"failed":0,"canceled":0}},{"index":1,"kind":"job","name":"stopped","state":"canceled","after":[0],"reason":"stopped by admin","started":1796016264210079,"ended":1796016268273574,"nodes":["n00002"],"tasks":{"pending":0,"started":0,"finished":0,"failed":0,"canceled":1}}],"files":[]}',NULL);
INSERT INTO controller_workflows VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',10,'paused','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs: {paused: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [hang]}, next: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}, command: [x], requires: [paused]}}\n','\n',char(10)),1796016264224752,1796016264224813,NULL,'started',NULL,NULL,'[]',NULL,'admin');
INSERT INTO controller_workflows VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',11,'given','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs: {given: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 4}, memory: {size: 16MiB}}, command: [x]}, next: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 4}, memory: {size: 16MiB}}, command: [x], requires: [given]}}\n','\n',char(10)),1796016272335936,1796016272335971,NULL,'started',NULL,NULL,'[]',NULL,NULL);
INSERT INTO controller_workflows VALUES('01a22ae9-77e7-7d01-9d81-52c77b304d47',12,'waits','{"name":"ann","uid":1001,"gid":1001,"groups":[]}',replace('version: v1\njobs: {waits: {image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 4}, memory: {size: 16MiB}}, command: [x]}}\n','\n',char(10)),1796016273383287,1796016273383332,NULL,'started',NULL,NULL,'[]',NULL,NULL);
CREATE TABLE controller_stages (
    workflow TEXT NOT NULL REFERENCES controller_workflows (id) ON DELETE CASCADE,
    stage    BIGINT NOT NULL,
    state    TEXT NOT NULL,
    reason   TEXT,
    started  BIGINT,
    ended    BIGINT,
    result   TEXT,
    PRIMARY KEY (workflow, stage)
);
INSERT INTO controller_stages VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',0,'finished',NULL,1796016259539678,1796016259706263,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',1,'finished',NULL,1796016259706377,1796016261477809,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',2,'finished',NULL,1796016260216690,1796016261100150,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',3,'finished',NULL,1796016261477982,1796016263379553,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',0,'finished',NULL,1796016263948362,1796016263958803,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',1,'finished',NULL,1796016263948362,1796016263953270,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',2,'finished',NULL,1796016263948362,1796016263977211,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',3,'finished',NULL,1796016263948362,1796016263978393,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',4,'finished',NULL,1796016263953337,1796016263980125,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',5,'finished',NULL,1796016263980164,1796016263993553,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',6,'started',NULL,1796016263993663,NULL,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',0,'finished',NULL,1796016264029089,1796016264039583,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',1,'started',NULL,1796016264039639,NULL,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',0,'finished',NULL,1796016264062441,1796016264076606,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',1,'started',NULL,1796016264076673,NULL,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',0,'finished',NULL,1796016264107653,1796016264112486,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',1,'failed','exited with status 4',1796016264112552,1796016264128709,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',2,'canceled','job fails failed',NULL,1796016264128709,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',0,'finished',NULL,1796016264135595,1796016264146940,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',1,'finished',NULL,1796016264146999,1796016264167124,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',0,'finished',NULL,1796016264163843,1796016264180218,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',1,'started',NULL,1796016264180289,NULL,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',0,'finished',NULL,1796016264186207,1796016264190733,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',1,'started',NULL,1796016264190784,NULL,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',0,'finished',NULL,1796016264205567,1796016264210031,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',1,'canceled','stopped by admin',1796016264210079,1796016268273574,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',0,'finished',NULL,1796016264224813,1796016264229986,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',1,'started',NULL,1796016264230041,NULL,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',0,'finished',NULL,1796016272335971,1796016272349745,'{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}');
INSERT INTO controller_stages VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',1,'started',NULL,1796016273370762,NULL,NULL);
INSERT INTO controller_stages VALUES('01a22ae9-77e7-7d01-9d81-52c77b304d47',0,'started',NULL,1796016273383332,NULL,NULL);
CREATE TABLE controller_runs (
    run       TEXT PRIMARY KEY,
    workflow  TEXT NOT NULL REFERENCES controller_workflows (id) ON DELETE CASCADE,
    stage     BIGINT NOT NULL,
    task      BIGINT NOT NULL,
    attempt   BIGINT NOT NULL,
    node      TEXT NOT NULL,
    node_name TEXT NOT NULL,
    boot      TEXT NOT NULL,
    placement TEXT,
    placed    BIGINT NOT NULL,
    accepted  BOOLEAN NOT NULL,
    started   BIGINT,
    ended     BIGINT,
    outcome   TEXT,
    log_bytes BIGINT NOT NULL
, used TEXT NOT NULL DEFAULT '{}');
INSERT INTO controller_runs VALUES('01a22ae9427a70e0aa21beec51632893','01a22ae9-41d3-7731-8a34-52075c16383e',1,8,1,'3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a','n00003','n00003-1796016259275227','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259728688,1796016260103672,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a71359a745b2d3ab40e08','01a22ae9-41d3-7731-8a34-52075c16383e',1,3,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259732236,1796016260224602,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a783e96a648c2f5722b08','01a22ae9-41d3-7731-8a34-52075c16383e',1,5,1,'3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a','n00003','n00003-1796016259275227','{"cpus":[0],"cores":[0],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259723169,1796016261017033,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a7b2fb2412b2a0573c4af','01a22ae9-41d3-7731-8a34-52075c16383e',1,7,1,'3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a','n00003','n00003-1796016259275227','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259726318,1796016260263971,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a7b9fb9225f25bd4d8f7e','01a22ae9-41d3-7731-8a34-52075c16383e',1,10,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259724565,1796016260393055,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a7c3686dde1c90e180dc6','01a22ae9-41d3-7731-8a34-52075c16383e',1,4,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259733428,1796016260844855,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a7c9b99c2c77108058f28','01a22ae9-41d3-7731-8a34-52075c16383e',1,11,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259727363,1796016261305165,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a7c9dbcb3d95160e2d5f3','01a22ae9-41d3-7731-8a34-52075c16383e',1,2,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259730884,1796016260216477,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a7d88b980b182e120f5d7','01a22ae9-41d3-7731-8a34-52075c16383e',1,12,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259729715,1796016260695387,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a7d97b42d71ce71ca3db4','01a22ae9-41d3-7731-8a34-52075c16383e',1,1,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[0],"cores":[0],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259711850,1796016260731256,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a7db7b5d1add5f5070268','01a22ae9-41d3-7731-8a34-52075c16383e',1,6,1,'3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a','n00003','n00003-1796016259275227','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259720907,1796016259915368,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9427a7fc09938e0c765e062b6','01a22ae9-41d3-7731-8a34-52075c16383e',1,9,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[0],"cores":[0],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259706377,1,1796016259723133,1796016260560889,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9434b7a499eb0a45be0cada06','01a22ae9-41d3-7731-8a34-52075c16383e',1,13,1,'3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a','n00003','n00003-1796016259275227','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016259915644,1,1796016259918889,1796016261470123,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae944087322ae01e40337d1028f','01a22ae9-41d3-7731-8a34-52075c16383e',1,14,1,'3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a','n00003','n00003-1796016259275227','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016260103967,1,1796016260107565,1796016261477809,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9447873ea8aab7601e9094dba','01a22ae9-41d3-7731-8a34-52075c16383e',2,1,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016260216690,1,1796016260220557,1796016261026338,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae944807f13bc67d98c1e9d4e83','01a22ae9-41d3-7731-8a34-52075c16383e',2,2,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016260224773,1,1796016260228397,1796016261100150,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae944a872a5889dfb2ca7ba9d64','01a22ae9-41d3-7731-8a34-52075c16383e',2,3,1,'3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a','n00003','n00003-1796016259275227','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016260264146,1,1796016260285314,1796016260789255,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae94529731eb2509365a2324289','01a22ae9-41d3-7731-8a34-52075c16383e',2,4,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016260393272,1,1796016260396719,1796016260787669,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae94966729e8682b7b66a48c417','01a22ae9-41d3-7731-8a34-52075c16383e',3,2,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016261477982,1,1796016261488515,1796016263379553,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9496676a5badc5d2160b800c3','01a22ae9-41d3-7731-8a34-52075c16383e',3,1,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[0],"cores":[0],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016261477982,1,1796016261486531,1796016262836132,'{"outcome":"exited","code":0}',0,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9530c70f78899b91bbd18431b','01a22ae9-530c-76fd-9ff1-289d07e843e2',3,0,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007',NULL,1796016263948362,1,1796016263978380,1796016263978393,'{"outcome":"exited","code":0}',13,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9530c712887df23e63c19b5f4','01a22ae9-530c-76fd-9ff1-289d07e843e2',2,0,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007',NULL,1796016263948362,1,1796016263977194,1796016263977211,'{"outcome":"exited","code":0}',11,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9530c78349e0fafe05e6caf3f','01a22ae9-530c-76fd-9ff1-289d07e843e2',1,0,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007',NULL,1796016263948362,1,1796016263953229,1796016263953270,'{"outcome":"exited","code":0}',10,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9531177679c3abcc09fb28f32','01a22ae9-530c-76fd-9ff1-289d07e843e2',4,0,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007',NULL,1796016263953337,1,1796016263980106,1796016263980125,'{"outcome":"exited","code":0}',14,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9532c7a33b9f6db1601c03d4b','01a22ae9-530c-76fd-9ff1-289d07e843e2',5,0,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[0],"cores":[0],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016263980164,1,1796016263992912,1796016263993553,'{"outcome":"exited","code":0}',32,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae95339726e96ede040adc7a664','01a22ae9-530c-76fd-9ff1-289d07e843e2',6,0,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[0],"cores":[0],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016263993663,1,1796016263999633,NULL,NULL,0,'{"cpu-micros":0,"memory-peak-bytes":0,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae953677aff8a2b85b65cbd3390','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,2,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264039639,1,1796016264058081,1796016264251225,'{"outcome":"exited","code":0}',29,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae953677c28a691c1bd42dc3364','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,1,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264039639,1,1796016264049058,1796016264160838,'{"outcome":"exited","code":0}',29,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9538c78b48521f7ad25e4b09b','01a22ae9-537e-73b9-bee7-050c21bd48a0',1,0,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264076673,1,1796016264101328,1796016264101376,'{"outcome":"exited","code":3}',18,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae953b07eaca87267fc1aa6557f','01a22ae9-53ab-77e3-8cb0-978e1ba885b4',1,0,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264112552,1,1796016264128662,1796016264128709,'{"outcome":"exited","code":4}',18,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae953d37536b812fe2aa65de702','01a22ae9-53c6-7d6a-9729-96a70b306ba9',1,0,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264146999,1,1796016264167063,1796016264167124,'{"outcome":"exited","code":0}',13,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae953e0753e91bfa58e4a08fc41','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,3,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264160949,1,1796016264170523,1796016264467664,'{"outcome":"exited","code":0}',29,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae953f47a39ae6badd45698e021','01a22ae9-53e2-7294-8e04-6982e86d4894',1,0,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264180289,1,1796016264184014,NULL,NULL,0,'{"cpu-micros":0,"memory-peak-bytes":0,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae953fe7e83b6955bf42e03445e','01a22ae9-53f9-7c50-8dcc-3173aee8182c',1,0,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[0],"cores":[0],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264190784,1,1796016264202748,NULL,NULL,0,'{"cpu-micros":0,"memory-peak-bytes":0,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae95412722f9f1092b1463e1800','01a22ae9-540c-7e3e-9708-93073af9778e',1,0,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264210079,1,1796016264213403,1796016268273574,'{"outcome":"stopped","why":"stopped by admin"}',18,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae954267c1185177c6aa9f004e3','01a22ae9-5420-759e-bb99-26c2ecc2d4ab',1,0,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264230041,1,1796016264234149,NULL,NULL,0,'{"cpu-micros":0,"memory-peak-bytes":0,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9543b70398962e3aee8878953','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,4,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264251369,1,1796016264254582,1796016264656251,'{"outcome":"exited","code":0}',29,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9551479ccb041e904dbb076aa','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,5,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264468518,1,1796016264471767,1796016264974203,'{"outcome":"exited","code":0}',29,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae955d071b38c40bea81fb40bfa','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,6,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264656422,1,1796016264659595,1796016265261685,'{"outcome":"exited","code":0}',29,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9570e7dadba5cb077b94b6132','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,7,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016264974363,1,1796016264977297,1796016265679471,'{"outcome":"exited","code":0}',29,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9582e79158f155143eafdeec7','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,8,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016265262013,1,1796016265269564,1796016266072629,'{"outcome":"exited","code":0}',29,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9582e79d39cc1270ea857dffa','01a22ae9-537e-73b9-bee7-050c21bd48a0',1,0,2,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016265262013,1,1796016265267063,1796016265267098,'{"outcome":"exited","code":3}',18,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae959cf759c832e8cfbf78933ed','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,9,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016265679645,1,1796016265685283,1796016266586168,'{"outcome":"exited","code":0}',29,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae95b587923829fe15b18911b33','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,10,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016266072781,1,1796016266107988,1796016267107766,'{"outcome":"exited","code":0}',31,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae95d5a7ceb86fb91476d36af96','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,11,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016266586337,1,1796016266591316,1796016267696523,'{"outcome":"exited","code":0}',31,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae95f647c729955100f3c7e69fb','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,12,1,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[3],"cores":[3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016267107933,1,1796016267111740,1796016268313232,'{"outcome":"exited","code":0}',31,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae961b071558ef5d879436015f9','01a22ae9-537e-73b9-bee7-050c21bd48a0',1,0,3,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016267696679,1,1796016267743343,1796016267743376,'{"outcome":"exited","code":3}',18,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae961b07294b9056568e48dcda3','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,13,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016267696679,1,1796016267740862,1796016269036771,'{"outcome":"exited","code":0}',31,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae964197ddeafc739657e9be34b','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,14,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016268313381,1,1796016268316712,1796016269718507,'{"outcome":"exited","code":0}',31,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae966ed77eb8f15edda2f3af7bd','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,15,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016269036963,1,1796016269040186,1796016270548069,'{"outcome":"exited","code":0}',31,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae96996779b859b62159baebe29','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,16,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016269718662,1,1796016269722267,1796016271325934,'{"outcome":"exited","code":0}',31,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae96cd478b5beea293be695986d','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,17,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016270548257,1,1796016270551193,1796016272253715,'{"outcome":"exited","code":0}',31,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae96fde71ac86cec0ffe7fe435b','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,18,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016271326087,1,1796016271329228,1796016273131441,'{"outcome":"exited","code":0}',31,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae97269709cac23aa4681aaaf1b','01a22ae9-537e-73b9-bee7-050c21bd48a0',1,0,4,'0987c181-de07-4555-b7d9-9114cc7c574b','n00002','n00002-1796016259273739','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016271977323,1,1796016271980946,1796016271981961,'{"outcome":"exited","code":3}',18,'{"cpu-micros":1000,"memory-peak-bytes":1048576,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae9737d777b85b04ab8188522fd','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,19,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[1],"cores":[1],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016272253909,1,1796016272261286,NULL,NULL,0,'{"cpu-micros":0,"memory-peak-bytes":0,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae977d07fd494856e2e230723fb','01a22ae9-535c-775c-9af0-4aae79f45ae3',1,20,1,'d8d043ec-8054-416b-af10-cfc147dcbeb2','n00001','n00001-1796016259276007','{"cpus":[2],"cores":[2],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016273360394,0,NULL,NULL,NULL,0,'{"cpu-micros":0,"memory-peak-bytes":0,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
INSERT INTO controller_runs VALUES('01a22ae977da7473ba9f9136334dd4b4','01a22ae9-73cf-744c-8520-3a6641a10c70',1,0,1,'3b4709c8-13b8-41d5-9baa-8dd36e4f9e7a','n00003','n00003-1796016259275227','{"cpus":[0,1,2,3],"cores":[0,1,2,3],"memory":[[0,16777216]],"devices":[],"exclusive":false}',1796016273370762,0,NULL,NULL,NULL,0,'{"cpu-micros":0,"memory-peak-bytes":0,"read-bytes":0,"written-bytes":0,"cpu-wait-micros":0,"memory-wait-micros":0,"io-wait-micros":0}');
CREATE TABLE controller_events (
    workflow TEXT NOT NULL REFERENCES controller_workflows (id) ON DELETE CASCADE,
    number   BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    event    TEXT NOT NULL,
    stage    BIGINT,
    name     TEXT,
    message  TEXT NOT NULL,
    PRIMARY KEY (workflow, number)
);
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',1,1796016259539627,'WORKFLOW_STARTED',NULL,NULL,'sim-00000 was handed in');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',2,1796016259539678,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',3,1796016259539678,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',4,1796016259706263,'IMAGE_CONVERT_COMPLETED',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab pulled and converted, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',5,1796016259706263,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',6,1796016259706263,'DEPENDENCY_SATISFIED',1,'work','may begin');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',7,1796016259706263,'DEPENDENCY_SATISFIED',2,'flaky','may begin');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',8,1796016259706377,'STAGE_STARTED',1,'work','started');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',9,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[1] goes to n00002, CPUs 0, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',10,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[2] goes to n00002, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',11,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[3] goes to n00002, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',12,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[4] goes to n00002, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',13,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[5] goes to n00003, CPUs 0, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',14,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[6] goes to n00003, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',15,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[7] goes to n00003, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',16,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[8] goes to n00003, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',17,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[9] goes to n00001, CPUs 0, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',18,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[10] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',19,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[11] goes to n00001, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',20,1796016259706377,'RESOURCES_ALLOCATED',1,'work','job work[12] goes to n00001, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',21,1796016259711850,'CONTAINER_STARTED',1,'work','job work[1] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',22,1796016259720907,'CONTAINER_STARTED',1,'work','job work[6] runs on n00003');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',23,1796016259723133,'CONTAINER_STARTED',1,'work','job work[9] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',24,1796016259723169,'CONTAINER_STARTED',1,'work','job work[5] runs on n00003');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',25,1796016259724565,'CONTAINER_STARTED',1,'work','job work[10] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',26,1796016259726318,'CONTAINER_STARTED',1,'work','job work[7] runs on n00003');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',27,1796016259727363,'CONTAINER_STARTED',1,'work','job work[11] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',28,1796016259728688,'CONTAINER_STARTED',1,'work','job work[8] runs on n00003');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',29,1796016259729715,'CONTAINER_STARTED',1,'work','job work[12] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',30,1796016259730884,'CONTAINER_STARTED',1,'work','job work[2] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',31,1796016259732236,'CONTAINER_STARTED',1,'work','job work[3] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',32,1796016259733428,'CONTAINER_STARTED',1,'work','job work[4] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',33,1796016259915368,'CONTAINER_EXITED',1,'work','job work[6] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',34,1796016259915644,'RESOURCES_ALLOCATED',1,'work','job work[13] goes to n00003, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',35,1796016259918889,'CONTAINER_STARTED',1,'work','job work[13] runs on n00003');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',36,1796016260103672,'CONTAINER_EXITED',1,'work','job work[8] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',37,1796016260103967,'RESOURCES_ALLOCATED',1,'work','job work[14] goes to n00003, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',38,1796016260107565,'CONTAINER_STARTED',1,'work','job work[14] runs on n00003');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',39,1796016260216477,'CONTAINER_EXITED',1,'work','job work[2] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',40,1796016260216690,'STAGE_STARTED',2,'flaky','started');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',41,1796016260216690,'RESOURCES_ALLOCATED',2,'flaky','job flaky[1] goes to n00002, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',42,1796016260220557,'CONTAINER_STARTED',2,'flaky','job flaky[1] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',43,1796016260224602,'CONTAINER_EXITED',1,'work','job work[3] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',44,1796016260224773,'RESOURCES_ALLOCATED',2,'flaky','job flaky[2] goes to n00002, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',45,1796016260228397,'CONTAINER_STARTED',2,'flaky','job flaky[2] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',46,1796016260263971,'CONTAINER_EXITED',1,'work','job work[7] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',47,1796016260264146,'RESOURCES_ALLOCATED',2,'flaky','job flaky[3] goes to n00003, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',48,1796016260285314,'CONTAINER_STARTED',2,'flaky','job flaky[3] runs on n00003');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',49,1796016260393055,'CONTAINER_EXITED',1,'work','job work[10] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',50,1796016260393272,'RESOURCES_ALLOCATED',2,'flaky','job flaky[4] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',51,1796016260396719,'CONTAINER_STARTED',2,'flaky','job flaky[4] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',52,1796016260560889,'CONTAINER_EXITED',1,'work','job work[9] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',53,1796016260695387,'CONTAINER_EXITED',1,'work','job work[12] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',54,1796016260731256,'CONTAINER_EXITED',1,'work','job work[1] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',55,1796016260787669,'CONTAINER_EXITED',2,'flaky','job flaky[4] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',56,1796016260789255,'CONTAINER_EXITED',2,'flaky','job flaky[3] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',57,1796016260844855,'CONTAINER_EXITED',1,'work','job work[4] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',58,1796016261017033,'CONTAINER_EXITED',1,'work','job work[5] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',59,1796016261026338,'CONTAINER_EXITED',2,'flaky','job flaky[1] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',60,1796016261100150,'CONTAINER_EXITED',2,'flaky','job flaky[2] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',61,1796016261100150,'STAGE_FINISHED',2,'flaky','finished');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',62,1796016261305165,'CONTAINER_EXITED',1,'work','job work[11] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',63,1796016261470123,'CONTAINER_EXITED',1,'work','job work[13] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',64,1796016261477809,'CONTAINER_EXITED',1,'work','job work[14] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',65,1796016261477809,'STAGE_FINISHED',1,'work','finished');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',66,1796016261477809,'DEPENDENCY_SATISFIED',3,'last','may begin');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',67,1796016261477982,'STAGE_STARTED',3,'last','started');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',68,1796016261477982,'RESOURCES_ALLOCATED',3,'last','job last[1] goes to n00002, CPUs 0, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',69,1796016261477982,'RESOURCES_ALLOCATED',3,'last','job last[2] goes to n00002, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',70,1796016261486531,'CONTAINER_STARTED',3,'last','job last[1] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',71,1796016261488515,'CONTAINER_STARTED',3,'last','job last[2] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',72,1796016262836132,'CONTAINER_EXITED',3,'last','job last[1] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',73,1796016263379553,'CONTAINER_EXITED',3,'last','job last[2] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',74,1796016263379553,'STAGE_FINISHED',3,'last','finished');
INSERT INTO controller_events VALUES('01a22ae9-41d3-7731-8a34-52075c16383e',75,1796016263379553,'WORKFLOW_FINISHED',NULL,NULL,'finished');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',1,1796016263948312,'WORKFLOW_STARTED',NULL,NULL,'data was handed in');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',2,1796016263948362,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',3,1796016263948362,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',4,1796016263948362,'VOLUME_STORAGE_INFO',1,'in','volumes go to n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',5,1796016263948362,'STAGE_STARTED',1,'in','started');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',6,1796016263948362,'RESOURCES_ALLOCATED',1,'in','volume in goes to n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',7,1796016263948362,'STAGE_STARTED',2,'out','started');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',8,1796016263948362,'RESOURCES_ALLOCATED',2,'out','volume out goes to n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',9,1796016263948362,'VOLUME_STORAGE_INFO',3,'apart','volumes go to n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',10,1796016263948362,'STAGE_STARTED',3,'apart','started');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',11,1796016263948362,'RESOURCES_ALLOCATED',3,'apart','volume apart goes to n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',12,1796016263953229,'VOLUME_CREATE_STARTED',1,'in','volume in runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',13,1796016263953270,'VOLUME_CREATED',1,'in','volume in is done');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',14,1796016263953270,'STAGE_FINISHED',1,'in','finished');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',15,1796016263953270,'DEPENDENCY_SATISFIED',4,'in/words','may begin');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',16,1796016263953337,'STAGE_STARTED',4,'in/words','started');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',17,1796016263953337,'RESOURCES_ALLOCATED',4,'in/words','file in/words goes to n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',18,1796016263958803,'IMAGE_CACHE_HIT',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab was here already, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',19,1796016263958803,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',20,1796016263977194,'VOLUME_CREATE_STARTED',2,'out','volume out runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',21,1796016263977211,'VOLUME_CREATED',2,'out','volume out is done');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',22,1796016263977211,'STAGE_FINISHED',2,'out','finished');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',23,1796016263978380,'VOLUME_CREATE_STARTED',3,'apart','volume apart runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',24,1796016263978393,'VOLUME_CREATED',3,'apart','volume apart is done');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',25,1796016263978393,'STAGE_FINISHED',3,'apart','finished');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',26,1796016263980106,'FILE_TRANSFER_STARTED',4,'in/words','file in/words runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',27,1796016263980125,'FILE_TRANSFER_COMPLETED',4,'in/words','file in/words is done');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',28,1796016263980125,'STAGE_FINISHED',4,'in/words','finished');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',29,1796016263980125,'DEPENDENCY_SATISFIED',5,'count','may begin');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',30,1796016263980164,'STAGE_STARTED',5,'count','started');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',31,1796016263980164,'RESOURCES_ALLOCATED',5,'count','job count goes to n00001, CPUs 0, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',32,1796016263992912,'CONTAINER_STARTED',5,'count','job count runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',33,1796016263993553,'CONTAINER_EXITED',5,'count','job count exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',34,1796016263993553,'STAGE_FINISHED',5,'count','finished');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',35,1796016263993553,'DEPENDENCY_SATISFIED',6,'holds','may begin');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',36,1796016263993663,'STAGE_STARTED',6,'holds','started');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',37,1796016263993663,'RESOURCES_ALLOCATED',6,'holds','job holds goes to n00001, CPUs 0, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-530c-76fd-9ff1-289d07e843e2',38,1796016263999633,'CONTAINER_STARTED',6,'holds','job holds runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',1,1796016264029055,'WORKFLOW_STARTED',NULL,NULL,'array was handed in');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',2,1796016264029089,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',3,1796016264029089,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',4,1796016264039583,'IMAGE_CACHE_HIT',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab was here already, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',5,1796016264039583,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',6,1796016264039583,'DEPENDENCY_SATISFIED',1,'frames','may begin');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',7,1796016264039639,'STAGE_STARTED',1,'frames','started');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',8,1796016264039639,'RESOURCES_ALLOCATED',1,'frames','job frames[1] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',9,1796016264039639,'RESOURCES_ALLOCATED',1,'frames','job frames[2] goes to n00001, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',10,1796016264049058,'CONTAINER_STARTED',1,'frames','job frames[1] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',11,1796016264058081,'CONTAINER_STARTED',1,'frames','job frames[2] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',1,1796016264062408,'WORKFLOW_STARTED',NULL,NULL,'again was handed in');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',2,1796016264062441,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',3,1796016264062441,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',4,1796016264076606,'IMAGE_CACHE_HIT',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab was here already, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',5,1796016264076606,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',6,1796016264076606,'DEPENDENCY_SATISFIED',1,'fails','may begin');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',7,1796016264076673,'STAGE_STARTED',1,'fails','started');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',8,1796016264076673,'RESOURCES_ALLOCATED',1,'fails','job fails goes to n00001, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',9,1796016264101328,'CONTAINER_STARTED',1,'fails','job fails runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',10,1796016264101376,'CONTAINER_EXITED',1,'fails','job fails exited with status 3; attempt 2 in 1 s');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',1,1796016264107586,'WORKFLOW_STARTED',NULL,NULL,'failed was handed in');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',2,1796016264107653,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',3,1796016264107653,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',4,1796016264112486,'IMAGE_CACHE_HIT',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab was here already, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',5,1796016264112486,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',6,1796016264112486,'DEPENDENCY_SATISFIED',1,'fails','may begin');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',7,1796016264112552,'STAGE_STARTED',1,'fails','started');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',8,1796016264112552,'RESOURCES_ALLOCATED',1,'fails','job fails goes to n00001, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',9,1796016264128662,'CONTAINER_STARTED',1,'fails','job fails runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',10,1796016264128709,'CONTAINER_EXITED',1,'fails','job fails exited with status 4');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',11,1796016264128709,'STAGE_FAILED',1,'fails','exited with status 4');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',12,1796016264128709,'STAGE_CANCELED',2,'never','job fails failed');
INSERT INTO controller_events VALUES('01a22ae9-53ab-77e3-8cb0-978e1ba885b4',13,1796016264128709,'WORKFLOW_FAILED',NULL,NULL,'job fails: exited with status 4');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',1,1796016264135574,'WORKFLOW_STARTED',NULL,NULL,'hello was handed in');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',2,1796016264135595,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',3,1796016264135595,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',4,1796016264146940,'IMAGE_CACHE_HIT',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab was here already, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',5,1796016264146940,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',6,1796016264146940,'DEPENDENCY_SATISFIED',1,'hello','may begin');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',7,1796016264146999,'STAGE_STARTED',1,'hello','started');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',8,1796016264146999,'RESOURCES_ALLOCATED',1,'hello','job hello goes to n00001, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',12,1796016264160838,'CONTAINER_EXITED',1,'frames','job frames[1] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',13,1796016264160949,'RESOURCES_ALLOCATED',1,'frames','job frames[3] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',1,1796016264163818,'WORKFLOW_STARTED',NULL,NULL,'ruled was handed in');
INSERT INTO controller_events VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',2,1796016264163843,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',3,1796016264163843,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',9,1796016264167063,'CONTAINER_STARTED',1,'hello','job hello runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',10,1796016264167124,'CONTAINER_EXITED',1,'hello','job hello exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',11,1796016264167124,'STAGE_FINISHED',1,'hello','finished');
INSERT INTO controller_events VALUES('01a22ae9-53c6-7d6a-9729-96a70b306ba9',12,1796016264167124,'WORKFLOW_FINISHED',NULL,NULL,'finished');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',14,1796016264170523,'CONTAINER_STARTED',1,'frames','job frames[3] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',4,1796016264180218,'IMAGE_CACHE_HIT',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab was here already, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',5,1796016264180218,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',6,1796016264180218,'DEPENDENCY_SATISFIED',1,'ruled','may begin');
INSERT INTO controller_events VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',7,1796016264180289,'STAGE_STARTED',1,'ruled','started');
INSERT INTO controller_events VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',8,1796016264180289,'RESOURCES_ALLOCATED',1,'ruled','job ruled goes to n00001, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-53e2-7294-8e04-6982e86d4894',9,1796016264184014,'CONTAINER_STARTED',1,'ruled','job ruled runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',1,1796016264186183,'WORKFLOW_STARTED',NULL,NULL,'strange was handed in');
INSERT INTO controller_events VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',2,1796016264186207,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',3,1796016264186207,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',4,1796016264190733,'IMAGE_CACHE_HIT',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab was here already, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',5,1796016264190733,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',6,1796016264190733,'DEPENDENCY_SATISFIED',1,'strange','may begin');
INSERT INTO controller_events VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',7,1796016264190784,'STAGE_STARTED',1,'strange','started');
INSERT INTO controller_events VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',8,1796016264190784,'RESOURCES_ALLOCATED',1,'strange','job strange goes to n00002, CPUs 0, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-53f9-7c50-8dcc-3173aee8182c',9,1796016264202748,'CONTAINER_STARTED',1,'strange','job strange runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',1,1796016264205538,'WORKFLOW_STARTED',NULL,NULL,'stopped was handed in');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',2,1796016264205567,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',3,1796016264205567,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',4,1796016264210031,'IMAGE_CACHE_HIT',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab was here already, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',5,1796016264210031,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',6,1796016264210031,'DEPENDENCY_SATISFIED',1,'stopped','may begin');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',7,1796016264210079,'STAGE_STARTED',1,'stopped','started');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',8,1796016264210079,'RESOURCES_ALLOCATED',1,'stopped','job stopped goes to n00002, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',9,1796016264213403,'CONTAINER_STARTED',1,'stopped','job stopped runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',1,1796016264224752,'WORKFLOW_STARTED',NULL,NULL,'paused was handed in');
INSERT INTO controller_events VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',2,1796016264224813,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',3,1796016264224813,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',4,1796016264229986,'IMAGE_CACHE_HIT',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab was here already, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',5,1796016264229986,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',6,1796016264229986,'DEPENDENCY_SATISFIED',1,'paused','may begin');
INSERT INTO controller_events VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',7,1796016264230041,'STAGE_STARTED',1,'paused','started');
INSERT INTO controller_events VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',8,1796016264230041,'RESOURCES_ALLOCATED',1,'paused','job paused goes to n00002, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',9,1796016264234149,'CONTAINER_STARTED',1,'paused','job paused runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',15,1796016264251225,'CONTAINER_EXITED',1,'frames','job frames[2] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',16,1796016264251369,'RESOURCES_ALLOCATED',1,'frames','job frames[4] goes to n00002, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',17,1796016264254582,'CONTAINER_STARTED',1,'frames','job frames[4] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',18,1796016264467664,'CONTAINER_EXITED',1,'frames','job frames[3] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',19,1796016264468518,'RESOURCES_ALLOCATED',1,'frames','job frames[5] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',20,1796016264471767,'CONTAINER_STARTED',1,'frames','job frames[5] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',21,1796016264656251,'CONTAINER_EXITED',1,'frames','job frames[4] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',22,1796016264656422,'RESOURCES_ALLOCATED',1,'frames','job frames[6] goes to n00002, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',23,1796016264659595,'CONTAINER_STARTED',1,'frames','job frames[6] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',24,1796016264974203,'CONTAINER_EXITED',1,'frames','job frames[5] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',25,1796016264974363,'RESOURCES_ALLOCATED',1,'frames','job frames[7] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',26,1796016264977297,'CONTAINER_STARTED',1,'frames','job frames[7] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',27,1796016265261685,'CONTAINER_EXITED',1,'frames','job frames[6] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',28,1796016265262013,'RESOURCES_ALLOCATED',1,'frames','job frames[8] goes to n00002, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',11,1796016265262013,'RESOURCES_ALLOCATED',1,'fails','job fails goes to n00001, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',12,1796016265267063,'CONTAINER_STARTED',1,'fails','job fails runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',13,1796016265267098,'CONTAINER_EXITED',1,'fails','job fails exited with status 3; attempt 3 in 2 s');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',29,1796016265269564,'CONTAINER_STARTED',1,'frames','job frames[8] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',30,1796016265679471,'CONTAINER_EXITED',1,'frames','job frames[7] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',31,1796016265679645,'RESOURCES_ALLOCATED',1,'frames','job frames[9] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',32,1796016265685283,'CONTAINER_STARTED',1,'frames','job frames[9] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',33,1796016266072629,'CONTAINER_EXITED',1,'frames','job frames[8] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',34,1796016266072781,'RESOURCES_ALLOCATED',1,'frames','job frames[10] goes to n00002, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',35,1796016266107988,'CONTAINER_STARTED',1,'frames','job frames[10] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',36,1796016266586168,'CONTAINER_EXITED',1,'frames','job frames[9] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',37,1796016266586337,'RESOURCES_ALLOCATED',1,'frames','job frames[11] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',38,1796016266591316,'CONTAINER_STARTED',1,'frames','job frames[11] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',39,1796016267107766,'CONTAINER_EXITED',1,'frames','job frames[10] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',40,1796016267107933,'RESOURCES_ALLOCATED',1,'frames','job frames[12] goes to n00002, CPUs 3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',41,1796016267111740,'CONTAINER_STARTED',1,'frames','job frames[12] runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',42,1796016267696523,'CONTAINER_EXITED',1,'frames','job frames[11] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',43,1796016267696679,'RESOURCES_ALLOCATED',1,'frames','job frames[13] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',14,1796016267696679,'RESOURCES_ALLOCATED',1,'fails','job fails goes to n00001, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',44,1796016267740862,'CONTAINER_STARTED',1,'frames','job frames[13] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',15,1796016267743343,'CONTAINER_STARTED',1,'fails','job fails runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',16,1796016267743376,'CONTAINER_EXITED',1,'fails','job fails exited with status 3; attempt 4 in 4 s');
INSERT INTO controller_events VALUES('01a22ae9-5420-759e-bb99-26c2ecc2d4ab',10,1796016268247967,'WORKFLOW_PAUSED',NULL,NULL,'paused by admin');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',10,1796016268273574,'CONTAINER_EXITED',1,'stopped','job stopped stopped: stopped by admin');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',11,1796016268273574,'STAGE_CANCELED',1,'stopped','stopped by admin');
INSERT INTO controller_events VALUES('01a22ae9-540c-7e3e-9708-93073af9778e',12,1796016268273574,'WORKFLOW_CANCELED',NULL,NULL,'stopped by admin');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',45,1796016268313232,'CONTAINER_EXITED',1,'frames','job frames[12] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',46,1796016268313381,'RESOURCES_ALLOCATED',1,'frames','job frames[14] goes to n00001, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',47,1796016268316712,'CONTAINER_STARTED',1,'frames','job frames[14] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',48,1796016269036771,'CONTAINER_EXITED',1,'frames','job frames[13] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',49,1796016269036963,'RESOURCES_ALLOCATED',1,'frames','job frames[15] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',50,1796016269040186,'CONTAINER_STARTED',1,'frames','job frames[15] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',51,1796016269718507,'CONTAINER_EXITED',1,'frames','job frames[14] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',52,1796016269718662,'RESOURCES_ALLOCATED',1,'frames','job frames[16] goes to n00001, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',53,1796016269722267,'CONTAINER_STARTED',1,'frames','job frames[16] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',54,1796016270548069,'CONTAINER_EXITED',1,'frames','job frames[15] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',55,1796016270548257,'RESOURCES_ALLOCATED',1,'frames','job frames[17] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',56,1796016270551193,'CONTAINER_STARTED',1,'frames','job frames[17] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',57,1796016271325934,'CONTAINER_EXITED',1,'frames','job frames[16] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',58,1796016271326087,'RESOURCES_ALLOCATED',1,'frames','job frames[18] goes to n00001, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',59,1796016271329228,'CONTAINER_STARTED',1,'frames','job frames[18] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',17,1796016271977323,'RESOURCES_ALLOCATED',1,'fails','job fails goes to n00002, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',18,1796016271980946,'CONTAINER_STARTED',1,'fails','job fails runs on n00002');
INSERT INTO controller_events VALUES('01a22ae9-537e-73b9-bee7-050c21bd48a0',19,1796016271981961,'CONTAINER_EXITED',1,'fails','job fails exited with status 3; attempt 5 in 8 s');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',60,1796016272253715,'CONTAINER_EXITED',1,'frames','job frames[17] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',61,1796016272253909,'RESOURCES_ALLOCATED',1,'frames','job frames[19] goes to n00001, CPUs 1, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',62,1796016272261286,'CONTAINER_STARTED',1,'frames','job frames[19] runs on n00001');
INSERT INTO controller_events VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',1,1796016272335936,'WORKFLOW_STARTED',NULL,NULL,'given was handed in');
INSERT INTO controller_events VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',2,1796016272335971,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',3,1796016272335971,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
INSERT INTO controller_events VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',4,1796016272349745,'IMAGE_CACHE_HIT',0,'docker://127.0.0.1:5000/tiny:1','sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab was here already, 4096 bytes');
INSERT INTO controller_events VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',5,1796016272349745,'STAGE_FINISHED',0,'docker://127.0.0.1:5000/tiny:1','finished');
INSERT INTO controller_events VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',6,1796016272349745,'DEPENDENCY_SATISFIED',1,'given','may begin');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',63,1796016273131441,'CONTAINER_EXITED',1,'frames','job frames[18] exited with status 0');
INSERT INTO controller_events VALUES('01a22ae9-535c-775c-9af0-4aae79f45ae3',64,1796016273360394,'RESOURCES_ALLOCATED',1,'frames','job frames[20] goes to n00001, CPUs 2, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',7,1796016273370762,'STAGE_STARTED',1,'given','started');
INSERT INTO controller_events VALUES('01a22ae9-73cf-744c-8520-3a6641a10c70',8,1796016273370762,'RESOURCES_ALLOCATED',1,'given','job given goes to n00003, CPUs 0,1,2,3, 16 MiB');
INSERT INTO controller_events VALUES('01a22ae9-77e7-7d01-9d81-52c77b304d47',1,1796016273383287,'WORKFLOW_STARTED',NULL,NULL,'waits was handed in');
INSERT INTO controller_events VALUES('01a22ae9-77e7-7d01-9d81-52c77b304d47',2,1796016273383332,'STAGE_STARTED',0,'docker://127.0.0.1:5000/tiny:1','started');
INSERT INTO controller_events VALUES('01a22ae9-77e7-7d01-9d81-52c77b304d47',3,1796016273383332,'IMAGE_PULL_STARTED',0,'docker://127.0.0.1:5000/tiny:1','pulling 127.0.0.1:5000/tiny:1');
CREATE TABLE controller_images (
    manifest TEXT PRIMARY KEY,
    image    TEXT NOT NULL,
    used     BIGINT NOT NULL
);
INSERT INTO controller_images VALUES('sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab','{"manifest":"sha256:78bfdad12d603884ac4d410a08f5bf8997c9f3529ae1fbad100a54df80ff8aab","root":{"format":"squashfs","digest":"sha256:c9b619aab7ab292db016acce228eb454e5af61a7c5fe727c200b317f3528fc33","size":4096},"run":{"env":[],"entrypoint":[],"cmd":[],"working-dir":null}}',1796016259541420);
CREATE INDEX controller_runs_by_workflow ON controller_runs (workflow, stage, task, attempt);
CREATE INDEX controller_workflows_by_owner ON controller_workflows (owner_name, place) WHERE ended IS NOT NULL;
CREATE INDEX controller_workflows_by_name ON controller_workflows (name, place);
COMMIT;
